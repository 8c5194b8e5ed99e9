"""Callbacks at given steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..arguments.function import FUNCTION
from ..arguments.kind import Optional
from ..arguments.takes import takes
from ..arguments.whole import Whole
from ..errors import BadInput
from .training_state import TrainingState

SOME = Optional(Whole(1))


@takes(callback=FUNCTION, steps=SOME, epochs=SOME)
@dataclass(frozen=True)
class Every:
    """Calls a callback at exact intervals of steps or epochs. Its decisions are therefore reproducible, whereas other callbacks are called at time intervals.

    Args:
        callback: A callback as for `vb.fit`; its `new_rows` are those since its last call.
        steps: Number of steps between calls; or
        epochs: number of passes over the data between calls.

    Raises:
        BadInput: Both `steps` and `epochs` were given, or neither.

    Examples:
        >>> vb.fit(pair, data, epochs=50, batch_size=100, callbacks=[vb.Every(save, epochs=10)])
    """

    callback: Callable[[TrainingState], object]
    steps: int | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise BadInput(f"Every(steps={self.steps}, epochs={self.epochs}). Wanted: one of the two. Fix: epochs=1.")

    def __call__(self, state: TrainingState) -> object:
        return self.callback(state)

    def pace(self, per_epoch: int) -> int:
        """Steps between two calls, given the number of steps per epoch."""
        return self.steps or (self.epochs or 1) * per_epoch
