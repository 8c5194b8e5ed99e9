"""The state of a fit while it runs, for callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import Tensor

from ..errors import BadInput
from .history import History

if TYPE_CHECKING:
    from .result import Fit

LATE = (
    "The fit so far was requested after the callback had returned and training had continued. Wanted: state.fit inside the callback. "
    "Fix: store state.fit there; it is a copy that does not change."
)


class TrainingState:
    """The argument of callbacks of `vb.fit`: the current state of the fit.

    Attributes:
        rows: The history so far, one row per step, like `Fit.rows`.
        new_rows: The rows since the last call.
        restart: Number of the restart, from 0.
    """

    def __init__(self, rows: History, before: int, reach: Callable[[], Any]) -> None:
        self.rows, self.new_rows, self.restart = rows, rows[before:], 0
        self._reach: Callable[[], Any] | None = reach
        self._fit: Any = None

    @property
    def step(self) -> int:
        """Number of steps taken."""
        return self.rows[-1][0]

    @property
    def epoch(self) -> int:
        """The current pass over the data, from 1."""
        return self.rows[-1][1]

    @property
    def elbo(self) -> float:
        """ELBO of the whole data, in nats, as estimated at the last step."""
        return self.rows[-1][2]

    @property
    def elbo_per_datum(self) -> float:
        """ELBO per datum, in nats, as estimated at the last step."""
        return self.rows[-1][3]

    @property
    def seconds(self) -> float:
        """Time spent in steps, in seconds, excluding callbacks."""
        return self.rows[-1][4]

    @property
    def history(self) -> pd.DataFrame:
        """`rows` as a table, like `Fit.history`."""
        return self.rows.to_dataframe()

    @property
    def fit(self) -> Fit:
        """The `vb.Fit` so far, as a copy that you can inspect, save or keep.

        Raises:
            BadInput: The callback has returned.
        """
        if self._fit is None:
            if self._reach is None:
                raise BadInput(LATE)
            self._fit = self._reach()
        return self._fit  # type: ignore[no-any-return]

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Name → value in constrained space, on the CPU, like `Fit.parameters`; a copy."""
        return self.fit.parameters

    def __repr__(self) -> str:
        return f"TrainingState(step={self.step}, elbo={self.elbo:.6g}, seconds={self.seconds:.3g})"

    def leave(self) -> None:
        """Called when training continues: the state is no longer current."""
        self._reach = None
