"""Whole paths of states: the most probable one, and draws from the posterior and from the model."""

from __future__ import annotations

import torch
from torch import Tensor

from .messages import factors, forward, inside
from .scan import along, follow, times, times_matrix

BEST = times_matrix(torch.maximum), times(torch.maximum)


def viterbi(
    initial: Tensor, transition: Tensor, emission: Tensor, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The most probable path. Arguments as for `log_evidence`.

    Returns:
        (N, T) its states, −1 past a row's end; and (N,) log p(x, path) in nats. Of several that tie, one.

    References:
        Viterbi 1967, doi:10.1109/TIT.1967.1054010; Rabiner 1989, doi:10.1109/5.18626, eqs. 32 to 35.
    """
    first, steps = factors(initial, transition, emission, lengths)
    best = along(first, steps, *BEST)
    came_from = (best[:, :-1, :, None] + steps).argmax(2)
    value, last = best[:, -1].max(-1)
    return _backwards(last, came_from, emission, lengths), value


def sample_posterior(
    initial: Tensor,
    transition: Tensor,
    emission: Tensor,
    lengths: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """(N, T) a path from p(z | x), −1 past a row's end. Arguments as for `log_evidence`.

    For each step, and each state that may follow it, the state before is drawn at once: p(z_t | z_{t+1}, x_1, …, x_t). The
    last state then says which of these draws are the path.

    References:
        Scott 2002, Bayesian methods for hidden Markov models, doi:10.1198/016214502753479464.
    """
    given = initial, transition, emission, lengths
    messages, (_, steps) = forward(*given), factors(*given)
    came_from = _drawn((messages[:, :-1, :, None] + steps).mT, generator)
    return _backwards(_drawn(messages[:, -1], generator), came_from, emission, lengths)


def sample_prior(
    initial: Tensor, transition: Tensor, rows: int, steps: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """(rows, steps) paths of states from the model."""
    states = len(initial)
    first = _drawn(initial.expand(rows, states), generator)
    return follow(first, _drawn(transition.expand(rows, steps - 1, states, states), generator))


def _backwards(last: Tensor, came_from: Tensor, emission: Tensor, lengths: Tensor | None) -> Tensor:
    path = follow(last, came_from.flip(1)).flip(1)
    return torch.where(inside(emission, lengths), path, -1)


def _drawn(log_weight: Tensor, generator: torch.Generator | None) -> Tensor:
    """(...) integers from (..., S): the first of S clocks to ring, each at the rate of its weight."""
    clocks = torch.empty_like(log_weight).exponential_(generator=generator)
    return (log_weight - clocks.log()).argmax(-1)
