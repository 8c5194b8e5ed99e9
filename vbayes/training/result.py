"""What training returns: a trained pair, how it got there, and how to go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pandas as pd
import torch
from pyro.infer import ELBO
from torch import Tensor

from ..data.dataset import Dataset
from ..errors import BadInput
from ..estimators import name_of, resolve
from ..pair.pair import Pair
from ..summaries.card import Card, Displayable
from ..summaries.history import End, trained

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = tuple[int, int, float, float, float]
HISTORY = ("step", "epoch", "elbo", "elbo_per_datum", "seconds")


@dataclass(frozen=True)
class Progress:
    """Where a training run stands, to the last bit: with it, resuming equals never having stopped."""

    generator: dict[str, Any]
    staged: bool = False
    optimizer: dict[str, Any] | None = None


@dataclass(frozen=True, repr=False)
class Fit(Displayable):
    """A trained pair and how it got there.

    Attributes:
        pair: The trained copy; the pair handed to `fit` is as it was.
        data: What it was fitted to, on the device of the fit.
        estimator: Whose gradient was followed.
        rows: The history; `history` shows it as a table.
        interrupted: Whether it was stopped by Ctrl-C before its time.
        batch_size, optimizer, learning_rate, seed, compile: As given to `fit`.
        progress: What `resume` needs.
        switches: (steps before it, name) of each estimator that `estimator="auto"` went over to.
    """

    pair: Pair
    data: Dataset
    estimator: ELBO
    batch_size: int | None
    optimizer: Any
    learning_rate: float | None
    seed: int
    progress: Progress = field(repr=False)
    rows: tuple[Row, ...] = field(default=(), repr=False)
    interrupted: bool = False
    compile: bool | str = "auto"
    switches: tuple[tuple[int, str], ...] = ()

    @property
    def history(self) -> pd.DataFrame:
        """One row a step: step (from 1), epoch (from 1), elbo (nats, whole data), elbo_per_datum, seconds since the start."""
        return pd.DataFrame(self.rows, columns=list(HISTORY))

    @property
    def steps(self) -> int:
        """Optimiser steps taken."""
        return len(self.rows)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Name → trained value, in the constrained space (a scale is positive)."""
        return self.pair.constrained()

    def card(self) -> Card:
        """What followed which gradient, how far, and where it stands."""
        _, epochs, _, _, seconds = self.rows[-1] if self.rows else (0, 0, 0.0, 0.0, 0.0)
        rows = (
            ("estimator", name_of(self.estimator) + (", chosen on the way" if self.switches else "")),
            trained(
                self.steps, epochs, len(self.data),
                batch_size=self.batch_size, seconds=seconds, interrupted=self.interrupted,
            ),
            *End.of([row[3] for row in self.rows]).rows("ELBO"),
        )  # fmt: skip
        return Card(f"Fit: {self.pair.name} on {self.data.name}", rows)

    def resume(
        self,
        *,
        steps: int | None = None,
        epochs: int | None = None,
        callbacks: Sequence[Callable[[Sequence[Row]], object]] = (),
        progress: bool = True,
    ) -> Fit:
        """Goes on from here. This fit stays as it is.

        It is bit for bit what a longer fit would have done: but for a fit too short for `compile="auto"` to compile,
        which is compiled now if there are steps enough, and then draws other random numbers than Pyro did.
        """
        from .fit import count_steps, train

        unchanged = replace(self, pair=self.pair.copy())
        return train(unchanged, count_steps(self, steps, epochs), show=progress, callbacks=callbacks)

    def to_arviz(self, **options: Any) -> Any:
        """`vb.to_arviz(fit, **options)`."""
        from ..export.to_arviz import to_arviz

        return to_arviz(self, **options)

    def plot(self, ax: Axes | None = None) -> Axes:
        """ELBO per datum against steps."""
        from matplotlib import pyplot

        from ..plots import history

        if ax is None:
            _, ax = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
        return history(self.history, ax)

    def save(self, path: str | Path) -> Path:
        """Writes parameters, history and what `resume` needs into one safetensors file; see `Fit.load`."""
        from .checkpoint import save

        return save(self, Path(path))

    @classmethod
    def load(
        cls,
        path: str | Path,
        pair: Pair,
        data: Any,
        *,
        estimator: Any = "analytic_kl",
        optimizer: Any = torch.optim.Adam,
    ) -> Fit:
        """A fit that `save` wrote, for the same pair, data, estimator and optimiser."""
        from .checkpoint import load

        return load(Path(path), pair, Dataset.of(data), resolve(estimator), optimizer)


@runtime_checkable
class Trained(Protocol):
    """What has a trained pair and the data that it was trained on: a `Fit`, a `MonteCarloEM`."""

    @property
    def pair(self) -> Pair: ...
    @property
    def data(self) -> Dataset: ...


def pair_and_data(pair: Pair | Trained, data: Any) -> tuple[Pair, Any]:
    """A pair and data to look at it with; what was trained has both.

    Raises:
        BadInput: A pair without data, or no pair.
    """
    if isinstance(pair, Trained):
        return pair.pair, pair.data if data is None else data
    if not isinstance(pair, Pair):
        raise BadInput(f"{type(pair).__name__} is no pair. Wanted: a vb.Pair, or a vb.Fit of one.")
    if data is None:
        raise BadInput("data=None. Wanted: data, or a vb.Fit, which brings its own.")
    return pair, data
