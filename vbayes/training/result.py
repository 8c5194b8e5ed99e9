"""What training returns: a trained pair, how it got there, and how to go on."""

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
        pair: The trained copy; the pair handed to `fit` is as it was.
        data: What it was fitted to, on the device of the fit.
        estimator: Whose gradient was followed.
        rows: The history, a sequence of tuples; `history` shows it as a table.
        interrupted: Whether it was stopped before its time: by Ctrl-C, SIGTERM or a callback.
        batch_size, optimizer, learning_rate, seed, compile: As given to `fit`; the rate is that of the last phase where it was found, and an update is in the optimiser's place.
        progress: What `resume` needs.
        switches: (steps before it, name) of each estimator that `estimator="auto"` went over to.
        engine: What took its last steps, and why not what is quickest: "native", "interpreted: ..." or "Pyro: ..."; empty for one that was loaded.
        average: As given to `fit`.
        convergence: Whether it has converged, and why one thinks so; None where it has taken too few steps to look.
        tried: (guide, what its draws were worth) of each that `guide="auto"` has tried.
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
        if self.data.labels:  # taken out of here, the pair goes on to know what its codes stand for
            self.pair.trained_on = self.data

    @property
    def history(self) -> pd.DataFrame:
        """One row a step: step (from 1), epoch (from 1), elbo (nats, whole data; of the `bound` that was followed), elbo_per_datum, seconds since the start."""
        return self.rows.to_dataframe()

    @property
    def steps(self) -> int:
        """Optimiser steps taken."""
        return len(self.rows)

    @property
    def bound(self) -> str:
        """What was followed, and the history has: "ELBO"; "IWAE(64)", the bound of 64 particles; "−CUBO(32)" for one that is lowered, whose values have the other sign there."""
        return bound_of(self)

    @property
    def guide(self) -> str:
        """What the guide is, in words, and what "auto" has tried beside it; empty for one of a user's own."""
        return in_words(self.pair.guide, self.tried)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Name → trained value, in the constrained space (a scale is positive); on the CPU."""
        return {name: value.cpu() for name, value in self.pair.constrained().items()}

    def card(self) -> Card:
        """What followed which gradient, how far, and where it stands."""
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
            *far,
            *([("engine", self.engine)] if self.engine and self.engine != "native" and self.compile is not False else []),
            *([("trust", self.diagnosis.short())] if self.diagnosis else []),
            *(self.convergence.rows() if self.convergence else ()),
        )  # fmt: skip
        return Card(f"Fit: {self.pair.name} on {self.data.name}", rows)

    @takes()
    def to(self, device: str | torch.device) -> Fit:
        """The same fit with pair and data on another device, where `resume` then goes on. This one stays where it is.

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
        """Goes on from here: so many steps or epochs, or, where neither is given, until it has converged, as `fit` does. This fit stays as it is.

        By `steps` or `epochs` it is bit for bit what a longer fit would have done: but for a fit too short for `compile="auto"` to compile,
        which is compiled now if there are steps enough, and then draws other random numbers than Pyro did, or which goes on by XLA from 5000 steps in all on, with other
        last digits, and other draws where these are not made of normals and uniforms; and but for one that has trained until it converged, which goes on from the means of its iterates by Adam at its last rate.

        On CUDA the same minibatches and noise are what is promised. The last bits are the same too where each kernel adds in a fixed order, for which
        `torch.use_deterministic_algorithms(True)` asks; others, as those of rows looked up by an index, leave them open. A fit that was moved goes on with the
        noise of its new device.

        Args:
            steps, epochs: How far.
            max_steps, max_seconds, validation: As for `fit`, where neither is given.
            devices: As for `fit`: processes that go on with it together.
            callbacks, progress: As for `fit`.
        """
        return resumed(
            self, steps=steps, epochs=epochs, max_steps=max_steps, max_seconds=max_seconds, validation=validation, devices=devices,
            callbacks=callbacks, progress=progress,
        )  # fmt: skip

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The `vb.Diagnosis` that `diagnose` last made of its own data; None where nobody has asked."""
        return self.__dict__.get("_diagnosis")

    def diagnose(
        self, data: Any = None, *, draws: int | None = None, seed: int | None = None, device: str = "auto"
    ) -> Diagnosis:
        """`vb.diagnose(fit, data, ...)`: is it to be believed? The `vb.Diagnosis` of its own data is kept, for `verdict` and `print`."""
        found = verb("diagnose")(self, data, draws=draws, seed=seed, device=device)
        if data is None:
            self.__dict__["_diagnosis"] = found
        return found

    @property
    def _looked(self) -> tuple[float, float] | None:
        """The ELBO of all data and its error, where a diagnosis of its own data knows them."""
        found = self.diagnosis
        if found is None or not found.draws or found.rows != len(self.data):
            return None
        return found.elbo, found.elbo_se

    def verdict(self) -> str:
        """Whether it has converged, what its draws are worth, and what to do with them; see `diagnose`."""
        return str((self.diagnosis or self.diagnose()).verdict())

    @takes()
    def posterior(
        self, data: Any = None, draws: int = 1000, method: str | None = None, *, proposals: int | None = None, seed: int | None = None,
        device: str = "auto",
    ) -> Posterior:  # fmt: skip
        """`vb.posterior(fit, data, draws, method, ...)`, a `vb.Posterior`, by the method that the diagnosis advises if None is given: draws weighted and resampled where it says so, and exact ones where there
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
        """`vb.predict(fit, new_data, ...)`, a `vb.Prediction` of other rows and groups, or of its own rows; by the method that the diagnosis advises if None is given: draws
        weighted and resampled where it says so.
        """
        method = self._advised if method is None else method
        return verb("predict")(self, new_data, draws=draws, interval=interval, seed=seed, method=method)

    @property
    def _advised(self) -> str:
        """How draws are to be used, by the diagnosis."""
        try:
            return "psis" if (self.diagnosis or self.diagnose()).trust == "reweight" else "guide"
        except Unsuitable:  # there is nothing to judge: no latents
            return "guide"

    def linear_response(
        self, data: Any = None, *, draws: int = 256, seed: int | None = None, device: str = "auto"
    ) -> LinearResponse:
        """`vb.linear_response(fit, data, ...)`, a `vb.LinearResponse`: the covariances that a mean-field guide leaves out."""
        return verb("linear_response")(self, data, draws=draws, seed=seed, device=device)

    def report(self, folder: str | Path, *, predictions: Any = None, draws: int = 500, seed: int = 0) -> Path:
        """Writes a folder with a page: verdict, figures, what was predicted, draws for ArviZ and the fit itself; or, to "x.html", the page alone. See `vbayes.diagnostics.report`."""
        return verb("report")(self, folder, predictions=predictions, draws=draws, seed=seed)  # type: ignore[no-any-return]

    def to_arviz(
        self, data: Any = None, *, draws: int = 1000, seed: int | None = None, prior: bool = True, resample: bool = False, predictions: Any = None,
        coords: Mapping[str, Sequence[Any]] | None = None, dims: Mapping[str, Sequence[str]] | None = None,
    ) -> InferenceData:  # fmt: skip
        """`vb.to_arviz(fit, data, ...)`."""
        names = {"predictions": predictions, "coords": coords, "dims": dims}
        return to_arviz(self, data, draws=draws, seed=seed, prior=prior, resample=resample, **names)

    @takes()
    def plot(self, ax: Axes | None = None) -> Axes:
        """The ELBO, or whatever `bound` was followed, per datum against steps."""
        from matplotlib import pyplot

        from ..plots import history

        if ax is None:
            _, ax = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
        return history(self.history, ax, bound=self.bound)

    @takes()
    def save(self, path: str | Path) -> Path:
        """Writes parameters, history and what `resume` needs into one safetensors file; see `Fit.load`."""
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
        """A fit that `save` wrote, for the same pair, data, estimator and optimiser.

        A guide that came by a word comes back at its place without a search; to a model alone comes whichever guide the fit had.

        Args:
            estimator: That of the file if None, unless it is one of Pyro's, or its name does not say all of it.
            optimizer: That it was made by; an update comes back by itself.
            device: Where it is to go on, as for `fit`, whichever it was on before.
        """
        made = checkpoint.load(
            Path(path), pair_of(pair), Dataset.of(data), None if estimator is None else resolve(estimator), optimizer
        )
        return cls(**made).to(device)
