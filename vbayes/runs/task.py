"""A task of a sweep: one measurement, with one seed and one set of settings, whose result does not depend on where it runs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import platformdirs
import torch

from .. import rng
from ..errors import BadInput, warn
from ..progress import stops, terminated
from . import regular_file, table_file
from .card import own_card
from .experiment import Experiment, load
from .fingerprint import fingerprint
from .sources import sources, theirs

UNFORESEEN = "unforeseen"
_ONE_AT_A_TIME = (
    threading.Lock()
)  # generator and number of threads belong to the process, but a worker may have several threads


@dataclass(frozen=True)
class Task:
    """Everything that determines a table.

    Attributes:
        path: The experiment's file.
        settings: The settings of the measurement.
        seed: Seed for all random numbers.
        files: The experiment's data files.
        fingerprint: Fingerprint of these and of everything else that the numbers depend on; empty until `marked`.
    """

    path: Path
    settings: Mapping[str, Any]
    seed: int
    files: tuple[str, ...] = ()
    fingerprint: str = ""

    def marked(self) -> Task:
        """The task with its fingerprint, computed in this process while the experiment is loaded."""
        mark = fingerprint(self.path, files=self.files, settings=dict(self.settings), seed=self.seed, threads=1)
        return replace(self, fingerprint=mark)

    def described(self) -> str:
        """A description of its settings and seed."""
        return ", ".join(f"{name}={value}" for name, value in [*self.settings.items(), ("seed", self.seed)])

    def measure(self, *, quiet: bool) -> pd.DataFrame:
        """Measures the table, on one torch thread, so that it doesn't depend on the number of CPUs.

        Args:
            quiet: Whether to suppress what it prints.

        Raises:
            BadInput: The files or versions here are not those of the fingerprint.
        """
        with _ONE_AT_A_TIME, contextlib.ExitStack() as stack:
            experiment = stack.enter_context(load(self.path))
            if self.marked().fingerprint != self.fingerprint:
                raise BadInput(
                    f"A worker has a different {self.path}, vbayes, Python or torch than the process that sent it work. "
                    "Wanted: the same files at the same places, and the same versions."
                )
            if quiet:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            stack.enter_context(own_card())
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
            return measure(experiment, self.path, self.settings, self.seed)

    def kept(self) -> pd.DataFrame | None:
        """The table, if it was measured before and its file is intact. The cache is data: nothing in it is executed."""
        try:
            return table_file.of_bytes(regular_file.read(self._file()))
        except (OSError, ValueError):
            return None

    def keep(self, table: pd.DataFrame) -> None:
        """Caches the table atomically, unless it depends on files that were not known beforehand. If that fails, only warns."""
        if table.attrs.get(UNFORESEEN):
            return
        try:
            content = table_file.to_bytes(table)
            self._file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            regular_file.write(self._file(), content)
        except table_file.Unwritable as error:
            warn(
                f"{self.path}: a table can't be saved, so it will be measured again each time: {error}. "
                "Tables may hold numbers, strings, None, and lists, tuples and dictionaries of these."
            )
        except OSError as error:
            warn(
                f"The tables of a sweep can't be saved, so an interrupted sweep starts from the beginning: {error}. Fix: set VBAYES_CACHE to a writable folder with enough space."
            )

    def begins(self) -> None:
        """Creates a mark, if possible, which remains if the measurement crashes its process."""
        with contextlib.suppress(OSError):
            self._file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            regular_file.write(self._file(".begun"), b"")

    def ends(self) -> None:
        """Removes the mark."""
        with contextlib.suppress(OSError):
            self._file(".begun").unlink(missing_ok=True)

    def has_died(self) -> bool:
        """Whether there is such a mark of an earlier crash."""
        try:
            return regular_file.is_regular(self._file(".begun"))
        except OSError:
            return False

    def _file(self, ending: str = ".json") -> Path:
        return _folder() / f"{self.fingerprint}{ending}"


def measure(experiment: Experiment, path: Path, settings: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Measures the table for one seed, which is also the default seed of everything called without one.

    If the measurement imports a file that was not known beforehand, the table's `attrs` name it under "unforeseen", since changes of it
    can't be detected.

    Raises:
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM has ended a fit in the measurement.
    """
    before, stopped = set(sys.modules), len(stops())
    with rng.seeded(seed), rng.by_default(seed):
        table = experiment.measure(**settings)
    if signals := stops()[stopped:]:  # a fit in it was stopped early, so the numbers are not valid
        if signal.SIGTERM in signals:
            terminated(signal.SIGTERM, None)
        raise KeyboardInterrupt
    if new := set(theirs(before).values()) - set(sources(path)):
        table.attrs[UNFORESEEN] = sorted(map(str, new))
    return table


def _folder() -> Path:
    """`$VBAYES_CACHE`, or the user's cache folder.

    Raises:
        OSError: The user has no home directory.
    """
    if given := os.environ.get("VBAYES_CACHE"):
        return Path(given) / "tasks"
    try:
        return Path(platformdirs.user_cache_dir("vbayes")) / "tasks"
    except RuntimeError as error:
        raise OSError(str(error)) from error
