"""Guides that are mixtures, with a draw from each component."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..drawing.particles import Latent, Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class Stratified(Estimator):
    """The ELBO of a mixture guide, summed over its components, each drawn along its own path.

    surrogate = mean_k Σ_c α_c [log p(x, z_kc) − log q(z_kc|x)], z_kc = μ_c + L_c ε_kc, with q = Σ_c α_c N(μ_c, L_c L_cᵀ), differentiable in α

    Bound: ELBO. Bias: none. Needs: a guide of MixtureSameFamily sites of normals, beside Normal and MultivariateNormal ones, all independent given the data. It costs one evaluation
    of the model for each component, or for each combination with several mixtures; in return the gradients of weights and components need no score function.

    References:
        Morningstar, Vikram, Ham, Gallagher & Dillon 2021, Automatic differentiation variational inference with mixtures, arXiv:2003.01687, eq. 4.
    """

    needs = frozenset({"latents", "weigh"})
    families = frozenset({"normal_mixture", "normal", "full_normal"})
    reference = "Morningstar et al. 2021, arXiv:2003.01687"

    def estimate(self, particles: Particles) -> Estimate:
        bound = []
        for parts in itertools.product(*map(_components, particles.latents)):
            log_p, log_q = particles.weigh([z for _, z in parts])
            bound.append(math.prod(weight for weight, _ in parts) * (log_p - log_q))
        return Estimate.of(sum(bound).mean(0))  # type: ignore[union-attr]


def _components(site: Latent) -> list[tuple[Tensor | float, Tensor]]:
    """The weight of each component, (K, *local), and a draw from it, (K, *local, own); a normal is a single component of weight 1."""
    loc = site.parameters["loc"]
    if site.family == "normal":
        return [(1.0, loc + site.parameters["scale"] * torch.randn_like(loc))]
    root = site.parameters["scale_tril"]
    draws = loc + (root @ torch.randn_like(loc).unsqueeze(-1)).squeeze(-1)
    if site.family == "full_normal":
        return [(1.0, draws)]
    return list(zip(site.parameters["logits"].softmax(-1).unbind(-1), draws.unbind(-2), strict=True))
