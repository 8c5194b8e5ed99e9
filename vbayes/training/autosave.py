"""Saves a fit to a file while it runs: repeating the same call continues from there, with exactly the same results."""

from __future__ import annotations

import math
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..errors import BadInput, OutputUnwritable, warn
from . import checkpoint
from .schedule_state import require_schedule

F = TypeVar("F", bound=Any)  # a `Fit`

EVERY = "30s"
SHARE = 10  # saving takes at most 1 / SHARE of the time
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
STATES = 17  # maximum size of a checkpoint, in parameters: with an optimiser's state, and the means of training until convergence
ROW = 40  # bytes of a step's row in the history


class Autosave:
    """The file, and when it is written.

    Args:
        path: The file.
        every: Interval between saves, in seconds, or as "30s", "5min" or "1000 steps".
        same: What identifies the fit: name → plain value.

    Raises:
        BadInput: The interval or the path is not valid.
    """

    def __init__(self, path: str | Path, every: float | str, same: Mapping[str, Any]) -> None:
        self._seconds, self._steps = interval(every)
        if not isinstance(path, (str, os.PathLike)) or not str(path):
            raise BadInput(f"checkpoint={path!r}. Wanted: the name of a file, such as 'run.safetensors'.")
        self.path, self._same = Path(path), dict(same)
        self._next, self._at, self._warned = time.monotonic() + self._seconds, 0, False

    @property
    def beside(self) -> Autosave:
        """The `Autosave` of a second fit of the same call, with a second file next to the first."""
        twin = Autosave(self.path.with_name(f"{self.path.stem}.flow{self.path.suffix}"), "30s", self._same)
        twin._seconds, twin._steps = self._seconds, self._steps
        return twin

    def due(self, steps: int) -> bool:
        """Whether it is time to save, at this number of steps."""
        return time.monotonic() >= self._next or steps - self._at >= self._steps

    def begin(self, fit: F, *, finds: Any) -> tuple[F, dict[str, Any]]:
        """The fit to continue with: that of the file, or else this one, which is then written, so that an unwritable file is detected now.

        Args:
            fit: A fit of zero steps.
            finds: (fit, contents of the file) → a fit with the pair of the file.

        Returns:
            The fit, and the other contents of the file; empty for a new fit.

        Raises:
            BadInput: The file holds another fit, or is damaged.
            OutputUnwritable: The file can't be written, or there is not enough disk space.
        """
        if not os.path.lexists(self.path):
            self._require_room(fit)
            self.keep(fit, must=True)
            return fit, {}
        told = checkpoint.going(self.path)
        if told is None:
            raise BadInput(
                f"checkpoint={str(self.path)!r} holds a fit written by fit.save, not a checkpoint of a running fit. Wanted: a separate file for this fit. "
                "Fix: choose another name, or remove the file."
            )
        if differs := [
            f"{name} {theirs!r}, not {ours!r}"
            for name, ours in self._same.items()
            if (theirs := told["same"].get(name)) != ours
        ]:
            raise BadInput(
                f"checkpoint={str(self.path)!r} holds a different fit: it has {'; '.join(differs)}. Wanted: a checkpoint of the same fit, to continue it. "
                "Fix: choose another name, or remove the file."
            )
        fit = finds(fit, told)
        made = checkpoint.load(self.path, fit.pair, fit.data, fit.estimator, fit.optimizer)
        try:
            require_schedule(told.get("schedule"), {name: v.shape for name, v in made["pair"].parameters.items()})
        except BadInput as error:
            raise checkpoint.damaged(self.path, str(error)) from error
        made["pair"].to(fit.pair.device)
        names = ("pair", "rows", "progress", "learning_rate", "switches", "convergence")
        self._at = len(made["rows"])
        return replace(fit, **{name: made[name] for name in names}), told

    def keep(self, fit: Any, *, must: bool = False, **told: Any) -> None:
        """Saves the current state. If that fails, warns once, and training continues.

        Args:
            fit: The fit to save.
            must: Whether a failure to write is an error.
            told: Further contents of the file: `finished`, or the state of the schedule.
        """
        began = time.monotonic()
        try:
            checkpoint.save(fit, self.path, {"same": self._same, "finished": False} | told)
        except OutputUnwritable as error:
            if must:
                raise
            if not self._warned or told.get("finished"):
                warn(f"The checkpoint could not be saved: {error} Training continues without it.")
            self._warned = True
        ended = time.monotonic()
        self._next, self._at = ended + max(self._seconds, SHARE * (ended - began)), len(fit.rows)

    def remove(self) -> None:
        """Removes the file, which is no longer needed."""
        self.path.unlink(missing_ok=True)

    def _require_room(self, fit: Any) -> None:
        numbers = sum(value.numel() * value.element_size() for value in fit.pair.state().values())
        needed = 2 * STATES * numbers  # the old file is kept until the new one is complete
        try:
            free = shutil.disk_usage(self.path.absolute().parent).free
        except OSError:
            return  # writing will report the reason
        if free < needed:
            raise OutputUnwritable(
                f"Not enough disk space for {self.path}: its folder has {free / 2**20:,.1f} MiB left, and a checkpoint of this fit takes up to {needed / 2**20:,.1f} MiB. "
                "Wanted: enough space before training begins. Fix: free some space, or choose another folder."
            )


def interval(every: float | str) -> tuple[float, float]:
    """(seconds, steps) between two saves; infinite for the one that was not requested.

    Raises:
        BadInput: Neither.
    """
    if isinstance(every, (int, float)) and not isinstance(every, bool) and 0 <= every < math.inf:
        return float(every), math.inf
    if isinstance(every, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|steps?)\s*", every)):
        number, unit = float(found[1]), found[2]
        if unit in UNITS:
            return number * UNITS[unit], math.inf
        if number >= 1:
            return math.inf, number
    raise BadInput(f"every={every!r}. Wanted: seconds, or a text such as '30s', '5min' or '1000 steps'.")
