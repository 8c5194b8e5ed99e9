"""Sweeps: an experiment over several seeds and settings, divided into tasks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import BadInput
from ..progress import bar
from .experiment import Experiment
from .parallel import measured
from .task import UNFORESEEN, Task

CLOCK = re.compile(r"second|(^|_)(ms|us|µs|ns|time|speed)(_|$)")  # columns that differ between runs anyway


@dataclass(frozen=True)
class Combination:
    """One seed, and one value of each swept setting, with its own table, figure and verdict.

    Attributes:
        label: What distinguishes it from the others; empty if it is the only one.
        settings: All settings.
        seed: Seed for all random numbers.
    """

    label: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int

    @property
    def name(self) -> str:
        """`seed=0, replicas=100`."""
        return ", ".join(f"{name}={_shown(value)}" for name, value in self.label.items())

    def tasks(self, path: Path, experiment: Experiment) -> list[Task]:
        """Its parts that can be measured separately: one for each entry of the settings named in the experiment's `tasks`."""
        names = experiment.tasks
        lists = [self.settings[name] for name in names]
        parts = [[type(entries)([entry]) for entry in entries] or [entries] for entries in lists]
        return [
            Task(
                path.resolve(), {**self.settings, **dict(zip(names, part, strict=True))}, self.seed, experiment.files
            ).marked()
            for part in itertools.product(*parts)
        ]


def combinations(
    experiment: Experiment, *, quick: bool, given: Mapping[str, str], seeds: Sequence[int], sweep: Mapping[str, str]
) -> list[Combination]:
    """All combinations of seeds and swept values.

    Args:
        experiment: The experiment.
        quick: Whether to use its quick settings.
        given: Name → text of settings that are the same for all.
        seeds: At least one seed.
        sweep: Name → comma-separated values; for a list setting, each value is a list of one.

    Raises:
        BadInput: There is no such setting, or it has the wrong type.
    """
    lists = {name: [text.strip() for text in texts.split(",") if text.strip()] for name, texts in sweep.items()}
    for name, texts in lists.items():
        if not texts or name in given:
            raise BadInput(f"--sweep {name}={sweep[name]} needs values separated by commas, and no --set {name}.")
    found = []
    for seed, chosen in itertools.product(seeds, itertools.product(*lists.values())):
        settings = experiment.settings(quick=quick, given={**given, **dict(zip(lists, chosen, strict=True))})
        label: dict[str, Any] = {"seed": seed} if len(seeds) > 1 else {}
        found.append(Combination(label | {name: settings[name] for name in lists}, settings, seed))
    return found


def measure(
    path: Path, experiment: Experiment, wanted: Sequence[Combination], *, jobs: int, backend: str, force: bool
) -> list[pd.DataFrame]:
    """Measures the table of each combination. Tasks are cached as they finish, and cached ones are not measured again.

    Args:
        path: The experiment's file.
        experiment: The experiment in it.
        wanted: The combinations.
        jobs: Number of tasks at a time on this machine.
        backend: As for `parallel.measured`.
        force: Whether to measure cached tasks again.

    Raises:
        TaskFailed: A measurement failed; earlier ones are cached.
        BadInput: There is no such backend, or it can't be reached.
    """
    tasks = [combination.tasks(path, experiment) for combination in wanted]
    every = list(itertools.chain(*tasks))
    found = {} if force else {number: kept for number, task in enumerate(every) if (kept := task.kept()) is not None}
    left = [number for number in range(len(every)) if number not in found]
    with bar("sweep", len(every), show=True, unit="task") as advance:
        for index, table in measured([every[number] for number in left], jobs=jobs, backend=backend):
            every[left[index]].keep(table)
            found[left[index]] = table
            advance(len(found), lambda: "")
    numbers = iter(range(len(every)))
    return [_joined([found[next(numbers)] for _ in own]) for own in tasks]


def check_seeds(experiment: Experiment, wanted: Sequence[Combination], tables: Sequence[pd.DataFrame]) -> None:
    """Checks that the tables of different seeds differ, unless the experiment is deterministic.

    Raises:
        BadInput: Two seeds have equal tables, apart from timings, and the experiment is not declared deterministic; or it is, and they differ.
    """
    for (one, a), (other, b) in itertools.combinations(zip(wanted, map(_without_clocks, tables), strict=True), 2):
        if (
            one.seed == other.seed
            or a.empty
            or one.settings != other.settings
            or a.equals(b) == experiment.deterministic
        ):
            continue
        if experiment.deterministic:
            raise BadInput(
                f"The tables of seeds {one.seed} and {other.seed} differ, but the experiment says deterministic=True. Wanted: equal tables, or deterministic=False."
            )
        raise BadInput(
            f"Seeds {one.seed} and {other.seed} have equal tables, so several seeds give no more information than one. Wanted: a measurement that depends on the seed, or "
            "vb.Experiment(..., deterministic=True) if nothing is random.\nFix: remove what fixes the seed, such as seed=0 or torch.manual_seed(0); functions called "
            "without a seed use that of the run, vb.default_seed()."
        )


def _without_clocks(table: pd.DataFrame) -> pd.DataFrame:
    return table[[name for name in table if not CLOCK.search(str(name))]]


def stacked(wanted: Sequence[Combination], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table of all combinations, with columns for what distinguishes them."""
    return _joined([_labelled(table, c.label) for table, c in zip(tables, wanted, strict=True)])


def _labelled(table: pd.DataFrame, label: Mapping[str, Any]) -> pd.DataFrame:
    table = table.copy()
    for place, (name, value) in enumerate(label.items()):
        shown = _shown(value)
        if name in table and not (table[name] == shown).all():
            name = f"{name} (set)"  # the table already has a column with this name
        if name not in table:
            table.insert(min(place, table.shape[1]), name, shown)
    return table


def one_or_all(values: Sequence[Any]) -> Any:
    """The common value of some values, or the distinct ones in order."""
    different = [value for number, value in enumerate(values) if value not in values[:number]]
    return different[0] if len(different) == 1 else different


def _shown(value: Any) -> Any:
    """A value for display; a list of one is shown as its entry."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    if len(tables) == 1:
        return tables[0]
    joined = pd.concat(tables, ignore_index=True)
    joined.attrs = {UNFORESEEN: sorted({file for table in tables for file in table.attrs.get(UNFORESEEN, ())})}
    return joined
