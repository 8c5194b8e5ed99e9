"""Where a fit stands while it runs, for callbacks."""

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
    "The fit so far is asked for after its callback has returned, and has gone on since. Wanted: asked for inside the callback. "
    "Mend: state.fit there, which is a copy that stays as it is."
)


class TrainingState:
    """What a callback of `vb.fit` is called with: where the fit stands now.

    Attributes:
        rows: The history so far, a row a step, as `Fit.rows`.
        new_rows: Those of the steps since the last call.
        restart: Which of the `restarts` it is, from 0.
    """

    def __init__(self, rows: History, before: int, reach: Callable[[], Any]) -> None:
        self.rows, self.new_rows, self.restart = rows, rows[before:], 0
        self._reach: Callable[[], Any] | None = reach
        self._fit: Any = None

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.rows[-1][0]

    @property
    def epoch(self) -> int:
        """The pass over the data that it is in, from 1."""
        return self.rows[-1][1]

    @property
    def elbo(self) -> float:
        """Of the whole data, nats, as the last step has estimated it."""
        return self.rows[-1][2]

    @property
    def elbo_per_datum(self) -> float:
        """The same by datum."""
        return self.rows[-1][3]

    @property
    def seconds(self) -> float:
        """On the clock of its steps, which stands still in callbacks."""
        return self.rows[-1][4]

    @property
    def history(self) -> pd.DataFrame:
        """`rows` as a table, as `Fit.history`."""
        return self.rows.to_dataframe()

    @property
    def fit(self) -> Fit:
        """The `vb.Fit` so far: a copy, to look at, save or keep.

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
        """Name → value in the constrained space, on the CPU, as `Fit.parameters`; a copy."""
        return self.fit.parameters

    def __repr__(self) -> str:
        return f"TrainingState(step={self.step}, elbo={self.elbo:.6g}, seconds={self.seconds:.3g})"

    def leave(self) -> None:
        """The fit goes on from here."""
        self._reach = None
