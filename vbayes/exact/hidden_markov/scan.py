"""Products along a chain of T factors in O(log T) depth, for any product that is associative.

Neighbours are multiplied in pairs, all pairs at once, until one is left; the products in between are filled in on the way back.
Sums over states, maxima over states and maps from state to state are all such products, so evidence, messages, best paths
and random paths need no loop over time.

References:
    Blelloch 1990, Prefix sums and their applications, CMU-CS-90-190.
    Särkkä & García-Fernández 2021, Temporal parallelization of Bayesian smoothers, arXiv:1905.13002; Hassan, Särkkä &
    García-Fernández 2021, Temporal parallelization of inference in hidden Markov models, arXiv:2102.05743.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Operation = Callable[[Tensor, Tensor], Tensor]

LOG_ZERO = -1e30
"""Used for log 0: the gradient of log(0 + 0) is NaN, that of numbers this small is zero.

A sum of 2²⁶ of them is still finite in single precision.
"""


def along(first: Tensor, factors: Tensor, apply: Operation, compose: Operation) -> Tensor:
    """first, first · f_1, first · f_1 · f_2, …

    Args:
        first: (N, ...) what the chain begins with.
        factors: (N, n, ...).
        apply: (N, k, ...) of the kind of `first` and (N, k, ...) factors → (N, k, ...) of the kind of `first`.
        compose: (N, k, ...) and (N, k, ...) factors → (N, k, ...) factors, so that applying one after the other is
            applying the result.

    Returns:
        (N, n + 1, ...).
    """
    n = factors.shape[1]
    if n == 0:
        return first[:, None]
    pairs = compose(factors[:, : n - n % 2 : 2], factors[:, 1::2]) if n > 1 else factors[:, :0]
    even = along(first, pairs, apply, compose)
    odd = apply(even[:, : (n + 1) // 2], factors[:, ::2])
    both = torch.stack([even[:, : odd.shape[1]], odd], 2).flatten(1, 2)
    return both if n % 2 else torch.cat([both, even[:, -1:]], 1)


def total(first: Tensor, factors: Tensor, apply: Operation, compose: Operation) -> Tensor:
    """(N, ...) first · f_1 · … · f_n. Arguments as for `along`."""
    while n := factors.shape[1]:
        if n % 2:
            first, factors = apply(first[:, None], factors[:, :1])[:, 0], factors[:, 1:]
        else:
            factors = compose(factors[:, ::2], factors[:, 1::2])
    return first


def times_matrix(add: Operation) -> Operation:
    """(..., S) log-vectors and (..., S, S) log-matrices → (..., S) their product, where `add` is logaddexp or maximum."""

    def apply(vector: Tensor, matrix: Tensor) -> Tensor:
        return _added([vector[..., s, None] + matrix[..., s, :] for s in range(matrix.shape[-2])], add)

    return apply


def times(add: Operation) -> Operation:
    """(..., S, S) log-matrices, twice → their product. Faster than logsumexp over a cube, and a fraction of its memory."""

    def compose(left: Tensor, right: Tensor) -> Tensor:
        return _added([left[..., :, s, None] + right[..., s, None, :] for s in range(right.shape[-2])], add)

    return compose


def _added(parts: list[Tensor], add: Operation) -> Tensor:
    result = parts[0]
    for part in parts[1:]:
        result = add(result, part)
    return result


def follow(first: Tensor, maps: Tensor) -> Tensor:
    """States along a chain of maps from state to state: first, m_1[first], m_2[m_1[first]], …

    Args:
        first: (N,) integers.
        maps: (N, n, S) integers.

    Returns:
        (N, n + 1).
    """

    def apply(state: Tensor, map_: Tensor) -> Tensor:
        return map_.gather(-1, state[..., None])[..., 0]

    def compose(earlier: Tensor, later: Tensor) -> Tensor:
        return later.gather(-1, earlier)

    return along(first, maps, apply, compose)
