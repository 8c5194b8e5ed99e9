"""What the data say about the states: evidence, filtered and posterior probabilities.

Everywhere `initial` is (S,) log-probabilities of the first state, `transition` (S, S) log-probabilities of the next state, by
rows, `emission` (N, T, S) log p(x_t | state), and `lengths` (N,) how many of the T steps each row has, at least one; None
is all of them. A step that was not observed has the emission 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .scan import LOG_ZERO, along, times, times_matrix, total

SUM = times_matrix(torch.logaddexp), times(torch.logaddexp)


def factors(initial: Tensor, transition: Tensor, emission: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """(N, S) log p(z_1, x_1) and (N, T−1, S, S) log p(z_{t+1}, x_{t+1} | z_t); past a row's end the identity."""
    steps = transition + emission[:, 1:, None, :]
    if lengths is not None:
        states = len(initial)
        stay = torch.full((states, states), LOG_ZERO, dtype=steps.dtype, device=steps.device).fill_diagonal_(0.0)
        steps = torch.where(inside(emission, lengths)[:, 1:, None, None], steps, stay)
    return (initial + emission[:, 0]).clamp(min=LOG_ZERO), steps.clamp(min=LOG_ZERO)


def inside(rows: Tensor, lengths: Tensor | None) -> Tensor:
    """(N, T) whether a step of rows (N, T, ...) is before the row's end."""
    if lengths is None:
        return torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device)
    return torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]


def log_evidence(initial: Tensor, transition: Tensor, emission: Tensor, lengths: Tensor | None = None) -> Tensor:
    """log p(x), by a parallel scan.

    Args:
        initial: (S,) log-probabilities of the first state.
        transition: (S, S) log-probabilities of the next state, by rows.
        emission: (N, T, S) log p(x_t | state); 0 where a step was not observed.
        lengths: (N,) steps of each row; None is T.

    Returns:
        (N,) nats; −∞ for what is impossible.

    References:
        Rabiner 1989, A tutorial on hidden Markov models, doi:10.1109/5.18626, eqs. 19 to 21.
    """
    evidence = total(*factors(initial, transition, emission, lengths), *SUM).logsumexp(-1)
    return torch.where(evidence > LOG_ZERO / 2, evidence, -torch.inf)


def forward(initial: Tensor, transition: Tensor, emission: Tensor, lengths: Tensor | None = None) -> Tensor:
    """(N, T, S) log p(x_1, …, x_t, z_t); its softmax is the filtered state. Arguments as for `log_evidence`.

    Past a row's end it stays as it is there.
    """
    return along(*factors(initial, transition, emission, lengths), *SUM)


def backward(initial: Tensor, transition: Tensor, emission: Tensor, lengths: Tensor | None = None) -> Tensor:
    """(N, T, S) log p(x_{t+1}, …, x_T | z_t). Arguments as for `log_evidence`."""
    first, steps = factors(initial, transition, emission, lengths)
    return along(torch.zeros_like(first), steps.flip(1).mT, *SUM).flip(1)


def marginals(initial: Tensor, transition: Tensor, emission: Tensor, lengths: Tensor | None = None) -> Tensor:
    """(N, T, S) p(state at t | x). Arguments as for `log_evidence`.

    Past a row's end it stays as it is there.
    """
    given = initial, transition, emission, lengths
    return (forward(*given) + backward(*given)).softmax(-1)


def pairwise(initial: Tensor, transition: Tensor, emission: Tensor, lengths: Tensor | None = None) -> Tensor:
    """(N, T−1, S, S) p(states at t and t + 1 | x), 0 past a row's end. Arguments as for `log_evidence`."""
    given = initial, transition, emission, lengths
    moves = forward(*given)[:, :-1, :, None] + transition + (emission + backward(*given))[:, 1:, None, :]
    probability = moves.flatten(2).softmax(-1).view_as(moves)
    return probability * inside(emission, lengths)[:, 1:, None, None]
