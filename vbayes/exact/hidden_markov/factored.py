"""The factored guide of a chain, q(z) = Π_t q_t(z_t): its ELBO, and the best there is."""

from __future__ import annotations

import torch
from torch import Tensor

from .messages import inside, marginals


def elbo(initial: Tensor, transition: Tensor, emission: Tensor, log_q: Tensor, lengths: Tensor | None = None) -> Tensor:
    """E_q[log p(x, z) − log q(z)].

    Args:
        initial, transition, emission, lengths: As for `log_evidence`.
        log_q: (N, T, S) log-probabilities.

    Returns:
        (N,) nats.
    """
    q = log_q.exp() * inside(emission, lengths)[..., None]
    moves = torch.einsum("nti,ntj,ij->n", q[:, :-1], q[:, 1:], transition)
    return q[:, 0] @ initial + moves + (q * (emission - log_q)).sum((1, 2))


def best_factored(
    initial: Tensor,
    transition: Tensor,
    emission: Tensor,
    lengths: Tensor | None = None,
    *,
    start: Tensor | None = None,
    tolerance: float = 1e-10,
    sweeps: int = 10_000,
) -> Tensor:
    """(N, T, S) log-probabilities of the q_t, by coordinate ascent: every second step at once, then those between.

    log q_t(z) = log p(x_t | z) + E[log p(z | z_{t−1})] + E[log p(z_{t+1} | z)] + const, which never lowers the ELBO. What it
    reaches is a local maximum, that of the start.

    Args:
        initial, transition, emission, lengths: As for `log_evidence`; no transition may be impossible.
        start: (N, T, S) log-probabilities; the posterior marginals if None.
        tolerance: Gain in the ELBO in nats, per sweep and row, at which to stop.
        sweeps: Maximum number of sweeps.

    References:
        Saul & Jordan 1996, Exploiting tractable substructures in intractable networks; Bishop 2006, section 10.1.1.
    """
    given = initial, transition, emission
    log_q = marginals(*given, lengths).log() if start is None else start
    log_q = log_q.clamp(min=torch.finfo(log_q.dtype).min / 4)  # 0 · log 0 is 0
    within = inside(emission, lengths)
    value = elbo(*given, log_q, lengths)
    for _ in range(sweeps):
        for parity in (0, 1):
            q = log_q.exp() * within[..., None]
            before = torch.cat([initial.expand_as(q[:, :1]), q[:, :-1] @ transition], 1)
            after = torch.cat([q[:, 1:] @ transition.mT, torch.zeros_like(q[:, :1])], 1)
            log_q = log_q.clone()
            log_q[:, parity::2] = (emission + before + after)[:, parity::2].log_softmax(-1)
        was, value = value, elbo(*given, log_q, lengths)
        if bool((value - was < tolerance).all()):
            break
    return log_q
