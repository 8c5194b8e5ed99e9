"""An experiment: a question, a claim, and a function that measures the answer."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..arguments.choice import TEXT
from ..arguments.function import FUNCTION
from ..arguments.kind import Anything, Mapped, Optional, Several
from ..arguments.takes import takes
from ..arguments.text import typed
from ..errors import BadInput, absent
from .fingerprint import declared
from .sources import theirs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@takes(
    full=Mapped(Anything()),
    quick=Mapped(Anything()),
    measure=FUNCTION,
    figure=FUNCTION,
    verdict=FUNCTION,
    sections=Several(TEXT, 0),
    tasks=Several(TEXT, 0),
    files=Several(TEXT, 0),
    summary=Optional(FUNCTION),
)
@dataclass(frozen=True)
class Experiment:
    """A question and how to answer it; `vbayes run FILE` looks for one named `experiment`.

    Args:
        question: The question, in one sentence.
        claim: The expected answer, in one sentence.
        measure: Function of the settings, passed by name, that returns the table from which everything else is made.
        full: Settings of the full measurement.
        quick: Settings that differ in a quick measurement.
        figure: Function from the table to a figure.
        verdict: Function from the table to the conclusion, in words with numbers.
        notes: How to read the table.
        sections: Columns used as headings of parts of the table.
        tasks: Names of list settings whose entries are independent: each entry is measured separately, as a
            list of one, with the same seed and on one torch thread, several in parallel with `--jobs`, and the tables
            are concatenated.
        summary: Function from the table to the part shown in the terminal; all of it if None.
        files: Data files that it reads, or folders of them, relative to its own folder; if one has changed, saved results are not reused.
        deterministic: Whether the table does not depend on the seed. For other experiments, equal tables for two seeds are an error, as they
            would suggest false certainty.
        slow: Why `vbayes run --all` leaves it out, in a few words; it then only runs if its file is named.

    Examples:
        >>> experiment = vb.Experiment(
        ...     question="Does STL's variance vanish at the exact posterior?", claim="Yes: its gradient is zero there.",
        ...     measure=measure, full={"replicas": 10_000}, quick={"replicas": 100}, figure=plot, verdict=say)
    """

    question: str
    claim: str
    measure: Callable[..., pd.DataFrame]
    full: Mapping[str, Any]
    quick: Mapping[str, Any]
    figure: Callable[[pd.DataFrame], Figure]
    verdict: Callable[[pd.DataFrame], str]
    notes: str = ""
    sections: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    summary: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    files: tuple[str, ...] = ()
    deterministic: bool = False
    slow: str = ""

    def __post_init__(self) -> None:
        for name in self.tasks:
            if not isinstance(self.full.get(name), (list, tuple)):
                raise BadInput(f"tasks names {name!r}, which is not a list setting. Wanted: names of list settings.")

    def shown(self, table: pd.DataFrame) -> pd.DataFrame:
        """The part of the table shown in the terminal."""
        return self.summary(table) if self.summary else table

    def settings(self, *, quick: bool, given: Mapping[str, str]) -> dict[str, Any]:
        """The settings of a run.

        Args:
            quick: Whether to use the quick settings.
            given: Name → text of explicitly given settings, parsed in the type of their default, or if that
                is None, as an integer, a number, None, or text, whichever fits first.

        Raises:
            BadInput: There is no such setting, or it has the wrong type.
        """
        settings = {**self.full, **(self.quick if quick else {})}
        for name, text in given.items():
            if name not in settings:
                raise BadInput(f"The experiment has no setting {name!r}. It has: {', '.join(settings)}.")
            settings[name] = typed(name, text, settings[name])
        return settings


def find(folder: Path) -> list[Path]:
    """The files in a folder that contain an experiment, sorted by name.

    Raises:
        BadInput: The folder does not exist, or contains no experiment.
    """
    found = [file for file in sorted(folder.glob("*.py")) if _names_one(file)]
    if not found:
        raise BadInput(
            f"There is no experiment in {folder}. Wanted: Python files with a vb.Experiment named `experiment`."
        )
    return found


def _names_one(file: Path) -> bool:
    try:
        body = ast.parse(file.read_bytes()).body
    except SyntaxError:
        return True  # running it will show the error
    targets = [t for node in body if isinstance(node, ast.Assign) for t in node.targets]
    targets += [node.target for node in body if isinstance(node, ast.AnnAssign)]
    return any(isinstance(target, ast.Name) and target.id == "experiment" for target in targets)


@contextmanager
def load(path: Path) -> Iterator[Experiment]:
    """Loads the experiment in a file, which may import neighbouring files. Its modules are reloaded each time.

    Raises:
        BadInput: The file does not exist, or contains no experiment.
    """
    if not path.is_file():
        raise BadInput(
            f"{absent(path) or f'{path} is not a file.'} Wanted: a Python file with a vb.Experiment named `experiment`."
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    already, places = set(sys.modules), list(sys.path)
    home = str(path.parent.resolve())  # absolute, as Python caches locations of relative paths
    sys.path.insert(0, home)
    before = sys.modules.get(spec.name)
    sys.modules[spec.name] = module  # dataclasses in the file look it up there
    # Without cached bytecode: Python would take a file that was changed within the same second for unchanged.
    keeps, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
        found = getattr(module, "experiment", None)
        if not isinstance(found, Experiment):
            raise BadInput(f"{path} has no vb.Experiment named `experiment`, but {type(found).__name__}.")
        declared(path, found.files)  # reports missing files before anything is measured
        yield found
    finally:
        sys.dont_write_bytecode = keeps
        sys.path[:] = places  # the file may have added some
        for name in theirs(
            already
        ):  # another experiment may have a neighbour of the same name, or this one may be edited
            del sys.modules[name]
        sys.modules.pop(spec.name, None)
        if before is not None:
            sys.modules[spec.name] = before
