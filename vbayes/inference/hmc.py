"""Hamiltonian Monte Carlo with many chains at once; proposals are accepted or rejected for each datum separately."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .unconstrained import Seen, Target

LEAPFROG_STEPS = 10  # of a proposal


def move(target: Target, state: Tensor, before: Seen, at: float, step_size: Tensor) -> tuple[Tensor, Seen, Tensor]:
    """Makes one proposal for the density q^(1 − β) p^β, accepted or rejected for each chain and datum separately.

    Args:
        target: Computes log-densities and gradients at a state.
        state: (C, *local, n).
        before: What `target` returned for `state`.
        at: Inverse temperature, β.
        step_size: Step size of the leapfrog integrator; broadcasts with (*local).

    Returns:
        The new states, what `target` returns for them, and (C, *local) 1 where a proposal was accepted, else 0.
    """
    size = step_size[..., None]
    momentum = torch.randn_like(state)
    energy = _mixed(before, at)[0] - 0.5 * momentum.square().sum(-1)
    position, seen = state, before
    for _ in range(LEAPFROG_STEPS):
        momentum = momentum + 0.5 * size * _mixed(seen, at)[1]
        position = position + size * momentum
        seen = target(position)
        momentum = momentum + 0.5 * size * _mixed(seen, at)[1]
    change = _mixed(seen, at)[0] - 0.5 * momentum.square().sum(-1) - energy
    taken = torch.rand_like(change).log() < change.nan_to_num(nan=-torch.inf)
    kept: Any = tuple(
        torch.where(taken[..., None] if new.dim() > taken.dim() else taken, new, old)
        for new, old in zip(seen, before, strict=True)
    )
    return torch.where(taken[..., None], position, state), kept, taken.to(step_size.dtype)


def _mixed(seen: Seen, at: float) -> tuple[Tensor, Tensor]:
    """Log-density and gradient at a temperature."""
    log_p, log_q, by_p, by_q = seen
    return (1 - at) * log_q + at * log_p, (1 - at) * by_q + at * by_p
