"""A chain of T hidden states out of S, each seen through an emission, for each row by itself; and a factored q."""

from __future__ import annotations

import torch
from torch import Tensor


def log_evidence(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
    """By the forward recursion.

    Args:
        initial: (S,) log-probabilities of the first state.
        transition: (S, S) log-probabilities of the next state, by rows.
        emission: (N, T, S) log p(x_t | state).

    Returns:
        (N,) nats.

    References:
        Rabiner 1989, A tutorial on hidden Markov models, doi:10.1109/5.18626, eqs. 19 to 21.
    """
    forward = initial + emission[:, 0]
    for t in range(1, emission.shape[1]):
        forward = (forward[:, :, None] + transition).logsumexp(1) + emission[:, t]
    return forward.logsumexp(1)


def marginals(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
    """(N, T, S) p(state at t | x). Arguments as for `log_evidence`.

    The derivative of the log-evidence by the log-density of one emission is the probability of its state.
    """
    with torch.enable_grad():
        free = emission.detach().requires_grad_()
        evidence = log_evidence(initial.detach(), transition.detach(), free).sum()
        return torch.autograd.grad(evidence, free)[0]


def elbo(initial: Tensor, transition: Tensor, emission: Tensor, log_q: Tensor) -> Tensor:
    """E_q[log p(x, z) − log q(z)] for q(z) = Π_t q_t(z_t).

    Args:
        initial, transition, emission: As for `log_evidence`.
        log_q: (N, T, S) log-probabilities.

    Returns:
        (N,) nats.
    """
    q = log_q.exp()
    moves = torch.einsum("nti,ntj,ij->n", q[:, :-1], q[:, 1:], transition)
    return q[:, 0] @ initial + moves + (q * (emission - log_q)).sum((1, 2))
