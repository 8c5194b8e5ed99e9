"""Which arguments of `fit` go together."""

from __future__ import annotations

from typing import Any

from ..errors import BadInput
from .budget import Budget, refuse_budget


def require_combination(
    *,
    steps: int | None,
    epochs: int | None,
    automatic: bool,
    restarts: int | None,
    average: bool | None,
    checkpoint: Any,
    max_steps: int | None,
    max_seconds: float | None,
    validation: Any,
) -> bool:
    """Raises an error for arguments of `fit` that would have no effect, or that exclude each other.

    | with | excludes |
    |---|---|
    | `steps`, `epochs`, `estimator="auto"` | `max_steps`, `max_seconds`, `validation` |
    | these, and `average=True` | `restarts`, `estimator="auto"`, `checkpoint` |
    | `checkpoint` | `restarts`, `estimator="auto"` |
    | `estimator="auto"` | `restarts` |

    Args:
        automatic: Whether `estimator="auto"`.

    Returns:
        Whether the length of the fit is given.

    Raises:
        BadInput: Arguments that don't go together, or a budget of nothing.
    """
    told = steps is not None or epochs is not None or automatic
    averaged, several = bool(average) and told, restarts is not None
    if averaged and (several or automatic):
        raise BadInput(
            "average=True with restarts or estimator='auto' and a given number of steps. Wanted: one fit with one estimator, or restarts that train until convergence."
        )
    Budget.of(max_steps, max_seconds)
    if told:
        refuse_budget(max_steps=max_steps, max_seconds=max_seconds, validation=validation)
    if checkpoint is not None and (automatic or several or averaged):
        beside = "estimator='auto'" if automatic else f"restarts={restarts}" if several else "average=True"
        raise BadInput(
            f"checkpoint={str(checkpoint)!r} with {beside}. Wanted: a single fit with one estimator, which can continue from a file. Fix: leave out one of them, and save the "
            "result."
        )
    if automatic and several:
        raise BadInput(
            f"estimator='auto' chooses for one fit, but restarts={restarts} runs several in one loop. Call vb.recommend first, and pass "
            "the estimator that it suggests."
        )
    return told
