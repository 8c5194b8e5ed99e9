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
    """Refuses what would be left without a say, or can't be had together.

    | with | excludes |
    |---|---|
    | `steps`, `epochs`, `estimator="auto"` | `max_steps`, `max_seconds`, `validation` |
    | these, and `average=True` | `restarts`, `estimator="auto"`, `checkpoint` |
    | `checkpoint` | `restarts`, `estimator="auto"` |
    | `estimator="auto"` | `restarts` |

    Args:
        automatic: Whether `estimator="auto"`.

    Returns:
        Whether the fit is told how far to go.

    Raises:
        BadInput: Arguments that don't go together, or a budget of nothing.
    """
    told = steps is not None or epochs is not None or automatic
    averaged, several = bool(average) and told, restarts is not None
    if averaged and (several or automatic):
        raise BadInput(
            "average=True with restarts or estimator='auto' for so many steps. Wanted: one fit by one estimator, or restarts that train until they have converged."
        )
    Budget.of(max_steps, max_seconds)
    if told:
        refuse_budget(max_steps=max_steps, max_seconds=max_seconds, validation=validation)
    if checkpoint is not None and (automatic or several or averaged):
        beside = "estimator='auto'" if automatic else f"restarts={restarts}" if several else "average=True"
        raise BadInput(
            f"checkpoint={str(checkpoint)!r} with {beside}. Wanted: a single fit by one estimator, which can go on from a file. Mend: leave out one of them, and save what "
            "comes out."
        )
    if automatic and several:
        raise BadInput(
            f"estimator='auto' chooses for one fit, and restarts={restarts} are several in one loop. Ask vb.recommend first, and hand in "
            "what it says."
        )
    return told
