"""Sticking the landing with an adaptive coefficient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..drawing.particles import Particles
from .base import Estimate
from .remembering import Averaging


@dataclass(frozen=True)
class AdaptiveSTL(Averaging):
    """The pathwise gradient with its score term as a control variate, whose coefficient is chosen to minimise the variance.

    surrogate = a function with gradient T + a c, where T is the gradient of mean_k log w_k and c that of mean_k log q(z̄_k|x), whose mean is zero;
    a = −E[T·c] / E[c·c], from moving averages over earlier draws. a = 0 is `Pathwise`, a = 1 is `STL`.

    Bound: ELBO. Bias: none, since a does not depend on the current draw. Needs: a path at every site; two gradients.

    Args:
        decay: Decay rate of the moving averages.

    References:
        Geffner & Domke 2018, Using large ensembles of control variates for variational inference, arXiv:1810.12482.
        Roeder, Wu & Duvenaud 2017, arXiv:1703.09194; Geffner & Domke 2020, arXiv:1911.01894.
    """

    decay: float = 0.99

    needs = frozenset({"log_p", "log_q", "log_q_fixed"})
    requires = frozenset({"path"})
    reference = "Geffner & Domke 2018, arXiv:1810.12482"
    remembers = ("gradient_control", "control_control", "weight")

    def estimate(self, particles: Particles) -> Estimate:
        value = particles.log_w
        return Estimate(value.detach().mean(0), value.mean(0), particles.log_q_fixed.mean(0))

    def finish(self, estimate: Estimate, particles: Particles) -> Estimate:
        leaves = estimate.leaves()
        if not leaves or estimate.control is None:  # only the value was asked for
            return estimate
        total, control = (
            torch.autograd.grad(part, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
            for part in (estimate.surrogate, estimate.control)
        )
        along = self.recall(gradient_control=_inner(total, control), control_control=_inner(control, control))
        a = -along["gradient_control"] / along["control_control"].clamp(
            min=torch.finfo(along["control_control"].dtype).tiny
        )
        return estimate.with_gradients([t + a * c for t, c in zip(total, control, strict=True)], leaves)


def _inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return sum((x * y).sum() for x, y in zip(a, b, strict=True))  # type: ignore[return-value]
