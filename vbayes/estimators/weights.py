"""Importance weights of K particles: means, normalisation, leave-one-out means, resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments.whole import Whole
from ..drawing.particles import Particles
from ..errors import BadInput
from .base import Estimate, Estimator


def log_mean_exp(log_w: Tensor, dim: int = 0) -> Tensor:
    """log (1/K) Σ exp along a dimension."""
    return torch.logsumexp(log_w, dim) - math.log(log_w.shape[dim])


def normalised(log_w: Tensor, dim: int = 0) -> Tensor:
    """v = w / Σ w along a dimension."""
    return torch.softmax(log_w, dim)


def others(log_w: Tensor, in_place: Tensor | None = None) -> Tensor:
    """log (1/K) Σ_{j≠k} w_j for each k, optionally with another weight instead of w_k: (K, *local) in and out.

    Args:
        in_place: (K, *local) logarithms of the weights to use instead of w_k; none if None.
    """
    k = len(log_w)
    own = torch.eye(k, dtype=torch.bool, device=log_w.device).view(k, k, *[1] * (log_w.dim() - 1))
    stand_in = log_w.new_full((), -math.inf) if in_place is None else in_place.unsqueeze(1)
    # Summed separately for each k: subtracting w_k from the total would lose all digits if w_k is nearly all of it.
    return torch.logsumexp(torch.where(own, stand_in, log_w.unsqueeze(0)), 1) - math.log(k)


def chosen(log_w: Tensor) -> Tensor:
    """(K, *local) indices of K particles, drawn independently by the weights: (K, *local) log-weights in."""
    with torch.no_grad():
        below = normalised(log_w).cumsum(0)
        spots = torch.rand_like(log_w) * below[-1]
        return (below.unsqueeze(1) <= spots).sum(0).clamp(max=len(log_w) - 1)


def multi_sample_score(particles: Particles, log_w: Tensor, without: Tensor) -> Estimate:
    """The score-function gradient of log (1/K) Σ w.

    Args:
        particles: Particles with `log_p_fixed`, `log_q_fixed` and `score`.
        log_w: (K, *local), constant.
        without: (K, *local) the bound without particle k, which is its baseline.
    """
    bound = log_mean_exp(log_w)
    direct = normalised(log_w) * (particles.log_p_fixed - particles.log_q_fixed)
    return Estimate(bound, (direct + (bound - without) * particles.score).sum(0))


@dataclass(frozen=True)
class Grouped(Estimator):
    """Base class of estimators whose particles form groups of equal size.

    Args:
        num_particles: Total number of particles in all groups.
        groups: Number of groups.
    """

    num_particles: int = 10
    groups: int = 2

    limits = {"groups": Whole(1)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_particles % self.groups:
            raise BadInput(
                f"{type(self).__name__}(num_particles={self.num_particles}, groups={self.groups!r}) is not valid. Wanted: a number of groups "
                "that divides the number of particles."
            )

    def grouped(self, values: Tensor) -> Tensor:
        """(K, *local) → (groups, K / groups, *local)."""
        return values.unflatten(0, (self.groups, -1))
