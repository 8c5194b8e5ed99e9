"""The result of training: a trained pair with its history, which can be saved and resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from pyro.infer import ELBO
from torch import Tensor

from ..arguments.function import FUNCTION
from ..arguments.kind import Several
from ..arguments.takes import takes
from ..arguments.whole import Whole
from ..data.dataset import Dataset
from ..errors import Unsuitable
from ..estimators import name_of, resolve
from ..estimators.followed import can_be_infinite
from ..export.to_arviz import to_arviz
from ..guides import in_words
from ..pair.device import choose_device
from ..pair.pair import Pair
from ..pair.paired import Model, pair_of
from ..summaries.card import Card, Displayable
from ..summaries.history import End, trained
from . import checkpoint
from .callbacks import Callback
from .convergence import Convergence
from .fit_run import Progress
from .history import History
from .resumed import resumed
from .settled import search_of
from .updating import bound_of, is_update, scores_alone
from .verbs import verb

if TYPE_CHECKING:
    from arviz import InferenceData
    from matplotlib.axes import Axes

    from ..diagnostics.diagnosis import Diagnosis
    from ..inference.linear_response import LinearResponse
    from ..inference.posterior import Posterior
    from ..inference.prediction import Prediction


@dataclass(frozen=True, repr=False)
class Fit(Displayable):
    """A trained pair with its history: the result of `vb.fit`.

    Attributes:
        pair: The trained copy of the pair; the pair given to `fit` is unchanged.
        data: The data that it was fitted to, on the device of the fit.
        estimator: The gradient estimator.
        rows: The history, as a sequence of tuples; `history` is the same as a table.
        interrupted: Whether it was stopped early, by Ctrl-C or a callback.
        batch_size, optimizer, learning_rate, seed, compile: As given to `fit`; a learning rate that was found is that of the last phase, and `optimizer` holds an update if there was one.
        progress: The state that `resume` needs.
        switches: (steps before the switch, name) of each estimator that `estimator="auto"` switched to.
        engine: What took the last steps, and if that was not the fastest, why: "native", "interpreted: ..." or "Pyro: ..."; empty for a loaded fit.
        average: As given to `fit`.
        convergence: Whether training has converged, and why; None after too few steps to tell.
        tried: (guide, how good its draws were) for each guide that `guide="auto"` tried.
    """

    pair: Pair
    data: Dataset
    estimator: ELBO
    batch_size: int | None
    optimizer: Any
    learning_rate: float | None
    seed: int
    progress: Progress = field(repr=False)
    rows: History = field(default_factory=History, repr=False)
    interrupted: bool = False
    compile: bool | str = "auto"
    switches: tuple[tuple[int, str], ...] = ()
    tried: tuple[tuple[str, str], ...] = ()
    convergence: Convergence | None = None
    engine: str = field(default="", compare=False)
    average: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", History.of(self.rows))
        if self.data.labels:  # so that the pair still knows the meaning of its codes when it is used without the fit
            self.pair.trained_on = self.data

    @property
    def history(self) -> pd.DataFrame:
        """One row per step: step (from 1), epoch (from 1), elbo (in nats, for the whole data; or the value of the `bound`), elbo_per_datum, seconds since the start."""
        return self.rows.to_dataframe()

    @property
    def steps(self) -> int:
        """Number of optimiser steps taken."""
        return len(self.rows)

    @property
    def bound(self) -> str:
        """Name of the objective in the history: "ELBO"; "IWAE(64)", the bound of 64 particles; "−CUBO(32)" for an objective that is minimised, whose values are negated."""
        return bound_of(self)

    @property
    def guide(self) -> str:
        """A description of the guide, and of the others that "auto" tried; empty for a user-defined guide."""
        return in_words(self.pair.guide, self.tried)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Name → trained value, in constrained space (a scale is positive); on the CPU."""
        return {name: value.cpu() for name, value in self.pair.constrained().items()}

    def card(self) -> Card:
        """The estimator, the length of training, and where it ended."""
        _, epochs, _, _, seconds = self.rows[-1] if self.rows else (0, 0, 0.0, 0.0, 0.0)
        search = search_of(self)
        far = search.rows(len(self.data), self._looked) if search else (
            trained(
                self.steps, epochs, len(self.data),
                batch_size=self.batch_size, seconds=seconds, interrupted=self.interrupted,
            ),
            *End.of(self.rows.elbo_per_datum).rows(self.bound),
        )  # fmt: skip
        rows = (
            *([("guide", self.guide)] if self.guide else []),
            *([] if scores_alone(self.optimizer) else [("estimator", name_of(self.estimator) + (", chosen on the way" if self.switches else ""))]),
            *([("update", repr(self.optimizer))] if is_update(self.optimizer) else []),
            *far, *([("", "can be infinite, which no value shows: see fit.diagnose()")] if can_be_infinite(self.estimator) else []),
            *([("engine", self.engine)] if self.engine and self.engine != "native" and self.compile is not False else []),
            *([("trust", self.diagnosis.short())] if self.diagnosis else []),
            *(self.convergence.rows() if self.convergence else ()),
        )  # fmt: skip
        return Card(f"Fit: {self.pair.name} on {self.data.name}", rows)

    @takes()
    def to(self, device: str | torch.device) -> Fit:
        """Returns a copy of the fit with pair and data on another device, on which `resume` then continues.

        Examples:
            >>> fit.to("cpu").save("fit.safetensors")
        """
        where = choose_device(str(device))
        return replace(self, pair=self.pair.copy().to(where), data=self.data.to(where))

    @takes(callbacks=Several(FUNCTION, 0))
    def resume(
        self,
        *,
        steps: int | None = None,
        epochs: int | None = None,
        max_steps: int | None = None,
        max_seconds: float | None = None,
        validation: Any = None,
        devices: int | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
    ) -> Fit:
        """Continues training, for a number of steps or epochs or, if neither is given, until convergence, as `fit` does. Returns a new fit; this one is unchanged.

        With `steps` or `epochs` the result is bit for bit that of one longer fit, with these exceptions. A fit too short for `compile="auto"` to compile
        is compiled now if there are enough steps, and then draws other random numbers than Pyro did; from 5000 steps in total on it may continue with XLA, with different rounding
        and, for draws not made of normals and uniforms, other draws. A fit trained until convergence continues from the mean of its iterates, with Adam at the last learning rate.

        On CUDA, only the same minibatches and noise are guaranteed. The last bits agree too if every kernel adds in a fixed order, which
        `torch.use_deterministic_algorithms(True)` requests, of XLA as well; some kernels, such as indexed lookups of rows, do not. A fit that was moved continues with the
        noise of its new device.

        Args:
            steps, epochs: Number of further steps or epochs.
            max_steps, max_seconds, validation: As for `fit`, if neither is given.
            devices: As for `fit`: number of processes that continue it together.
            callbacks, progress: As for `fit`.
        """
        return resumed(
            self, steps=steps, epochs=epochs, max_steps=max_steps, max_seconds=max_seconds, validation=validation, devices=devices,
            callbacks=callbacks, progress=progress,
        )  # fmt: skip

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The latest `vb.Diagnosis` by `diagnose` on the fit's own data; None if there is none yet."""
        return self.__dict__.get("_diagnosis")

    def diagnose(
        self, data: Any = None, *, draws: int | None = None, seed: int | None = None, device: str = "auto"
    ) -> Diagnosis:
        """Calls `vb.diagnose(fit, data, ...)`: can the fit be trusted? The `vb.Diagnosis` on its own data is stored, for `verdict` and `print`."""
        found = verb("diagnose")(self, data, draws=draws, seed=seed, device=device)
        if data is None:
            self.__dict__["_diagnosis"] = found
        return found

    @property
    def _looked(self) -> tuple[float, float] | None:
        """The ELBO of all data and its error, if a diagnosis of its own data has computed them."""
        found = self.diagnosis
        if found is None or not found.draws or found.rows != len(self.data):
            return None
        return found.elbo, found.elbo_se

    def verdict(self) -> str:
        """Whether the fit has converged, how good its draws are, and what to do with them; see `diagnose`."""
        return str((self.diagnosis or self.diagnose()).verdict())

    @takes()
    def posterior(
        self, data: Any = None, draws: int = 1000, method: str | None = None, *, proposals: int | None = None, seed: int | None = None,
        device: str = "auto",
    ) -> Posterior:  # fmt: skip
        """Calls `vb.posterior(fit, data, draws, method, ...)` and returns a `vb.Posterior`. If `method` is None, uses the method that the diagnosis recommends: draws resampled by weights if it says so, or exact draws if there
        is a closed form.
        """
        if method is None and self.pair.exact is None:
            method = self._advised
        how = {"proposals": proposals, "seed": seed, "device": device}
        return verb("posterior")(self, data, draws, method or "auto", **how)

    @takes(draws=Whole(1, drawn=True))
    def predict(
        self, new_data: Any = None, *, draws: int = 1000, interval: float = 0.9, seed: int | None = None, method: str | None = None
    ) -> Prediction:  # fmt: skip
        """Calls `vb.predict(fit, new_data, ...)` and returns a `vb.Prediction` for new rows and groups, or for its own rows. If `method` is None, uses the method that the diagnosis recommends: draws
        resampled by weights if it says so.
        """
        method = self._advised if method is None else method
        return verb("predict")(self, new_data, draws=draws, interval=interval, seed=seed, method=method)

    @property
    def _advised(self) -> str:
        """The method for draws that the diagnosis recommends."""
        try:
            return "psis" if (self.diagnosis or self.diagnose()).trust == "reweight" else "guide"
        except Unsuitable:  # nothing to diagnose, as there are no latents
            return "guide"

    def linear_response(
        self, data: Any = None, *, draws: int = 256, seed: int | None = None, device: str = "auto"
    ) -> LinearResponse:
        """Calls `vb.linear_response(fit, data, ...)` and returns a `vb.LinearResponse`: the covariances that a mean-field guide leaves out."""
        return verb("linear_response")(self, data, draws=draws, seed=seed, device=device)

    def report(self, folder: str | Path, *, predictions: Any = None, draws: int = 500, seed: int = 0) -> Path:
        """Writes a folder with a report page: verdict, figures, predictions, draws for ArviZ and the fit itself; or, given "x.html", only the page. See `vbayes.diagnostics.report`."""
        return verb("report")(self, folder, predictions=predictions, draws=draws, seed=seed)  # type: ignore[no-any-return]

    def to_arviz(
        self, data: Any = None, *, draws: int = 1000, seed: int | None = None, prior: bool = True, resample: bool = False, predictions: Any = None,
        coords: Mapping[str, Sequence[Any]] | None = None, dims: Mapping[str, Sequence[str]] | None = None,
    ) -> InferenceData:  # fmt: skip
        """Calls `vb.to_arviz(fit, data, ...)`."""
        names = {"predictions": predictions, "coords": coords, "dims": dims}
        return to_arviz(self, data, draws=draws, seed=seed, prior=prior, resample=resample, **names)

    @takes()
    def plot(self, ax: Axes | None = None) -> Axes:
        """Plots the ELBO, or other `bound`, per datum against steps."""
        from matplotlib import pyplot

        from ..plots import history

        if ax is None:
            _, ax = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
        return history(self.history, ax, bound=self.bound)

    @takes()
    def save(self, path: str | Path) -> Path:
        """Writes parameters, history and the state that `resume` needs to one safetensors file; see `Fit.load`."""
        return checkpoint.save(self, Path(path))

    @classmethod
    @takes()
    def load(
        cls,
        path: str | Path,
        pair: Model,
        data: Any,
        *,
        estimator: Any = None,
        optimizer: Any = torch.optim.Adam,
        device: str = "auto",
    ) -> Fit:
        """Loads a fit written by `save`, given the same pair, data, estimator and optimiser.

        A guide chosen by name is restored without repeating its search; a model alone gets the guide of the saved fit.

        Args:
            estimator: The estimator of the fit; if None, it is restored from the file, which is possible for vbayes estimators that are fully described by their name.
            optimizer: The optimiser that the fit was trained with; an update is restored from the file.
            device: Device to continue on, as for `fit`; need not be that of the saved fit.
        """
        made = checkpoint.load(
            Path(path), pair_of(pair), Dataset.of(data), None if estimator is None else resolve(estimator), optimizer
        )
        return cls(**made).to(device)
