"""The bound of a particle filter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..drawing.particles import Particles
from .base import Estimate, Estimator
from .objective import Objective
from .weights import chosen, log_mean_exp


@dataclass(frozen=True)
class FIVO(Estimator):
    """The logarithm of a particle filter's estimate of p(x): particles are weighted at each datum of a series, and resampled before the next latent is drawn.

    surrogate = Σ_t log (1/K) Σ_k w_tk, w_tk = p(z_tk, x_t | z_a, x_<t) / q(z_tk | z_a, x), where a = a_t−1,k is drawn by the weights of the step before; with `choice_term` plus
    Σ_t sg(Σ_{s>t} log (1/K) Σ_k w_sk) Σ_k log P(a_tk); of sites without a path plus Σ_t sg(Σ_{s≥t} log (1/K) Σ_k w_sk) Σ_k log q(z̄_tk | z_a, x)

    Bound: FIVO ≤ log p(x), as exp of the value has mean p(x). If model and guide don't alternate latents and data, there is one step, and it is the IWAE bound. Bias: resampling probabilities
    are held constant, as is usual; none with `choice_term`, but much more noise. Needs: nothing; discrete sites are handled by their score, which is noisy. It costs T² / 2 partial runs of model and
    guide in Pyro and during capture; compiled, twice the time of `IWAE` with as many particles if the model is Markovian.

    Args:
        num_particles: Number of particles, K.
        choice_term: Whether the surrogate includes the score of the resampling.

    References:
        Maddison et al. 2017, Filtering variational objectives, arXiv:1705.09279, algorithm 1 and eq. 8.
        Le, Igl, Rainforth, Jin & Wood 2018, Auto-encoding sequential Monte Carlo, arXiv:1705.10306.
        Naesseth, Linderman, Ranganath & Blei 2018, Variational sequential Monte Carlo, arXiv:1705.11140.
    """

    num_particles: int = 4
    choice_term: bool = False

    bound = "FIVO"
    unbiased_for = "nothing; with choice_term FIVO"
    unbiased_in = frozenset()
    needs = frozenset({"steps"})
    independent = True
    reference = "Maddison et al. 2017, arXiv:1705.09279"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.choice_term:
            object.__setattr__(self, "unbiased_in", frozenset({"model", "guide"}))

    @property
    def objective(self) -> Objective:
        return Objective(f"FIVO bound of {self.num_particles} particles", settings=(self.num_particles,))

    def resample(self, log_w: Tensor) -> tuple[Tensor, Tensor]:
        return chosen(log_w), log_mean_exp(log_w).expand_as(log_w)

    def estimate(self, particles: Particles) -> Estimate:
        bounds = [log_mean_exp(step.log_w) for step in particles.steps]
        bound = surrogate = bounds[-1]
        for step, before, after in zip(particles.steps, [torch.zeros_like(bound), *bounds], bounds, strict=False):
            scores = [term.log_q for term in step.terms if not (term.observed or term.value.requires_grad)]
            if scores:  # the score term of sites without a path
                surrogate = surrogate + (bound - before).detach() * torch.stack(scores).sum((0, 1))
            if self.choice_term and step.ancestors is not None:
                chances = step.log_w.log_softmax(0).gather(0, step.ancestors)
                surrogate = surrogate + (bound - after).detach() * chances.sum(0)
        return Estimate(bound.detach(), surrogate)
