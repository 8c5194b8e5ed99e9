"""The forward recursion, step by step: the reference for the parallel scan, and faster for very short chains."""

from __future__ import annotations

import torch
from torch import Tensor


def log_evidence_by_recursion(
    initial: Tensor, transition: Tensor, emission: Tensor, lengths: Tensor | None = None
) -> Tensor:
    """(N,) nats, in T steps after each other. Arguments as for `log_evidence`.

    References:
        Rabiner 1989, A tutorial on hidden Markov models, doi:10.1109/5.18626, eqs. 19 to 21.
    """
    forward = initial + emission[:, 0]
    for t in range(1, emission.shape[1]):
        moved = (forward[:, :, None] + transition).logsumexp(1) + emission[:, t]
        forward = moved if lengths is None else torch.where((t < lengths)[:, None], moved, forward)
    return forward.logsumexp(1)
