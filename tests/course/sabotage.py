"""An experiment of the course run as it is, and with a part of the library replaced."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import pytest

import vbayes as vb

Change = tuple[str, Callable[[Any], Any]]
"""Where: "module:name", "module:class.name", or ":name" of the experiment's own file; and what was there → what stands there instead."""


def decided(verdict: str) -> str:
    """What it says before the colon."""
    found = re.match(r"[^(:]*(\(.*?\))?(?=: )", verdict)
    assert found, verdict
    return found[0]


@dataclass(frozen=True)
class Sabotage:
    """What makes a claim false.

    Attributes:
        says: The check that decides then.
        changes: Parts of the library, or of what the experiment asks of torch and Pyro.
        trains: Whether training is sabotaged; if not, the fits of the sound run serve again.
        answer: The words before it, one or the other.
    """

    says: str
    changes: tuple[Change, ...]
    trains: bool = False
    answer: str | tuple[str, ...] = "Fails here ("

    def turns(self, sound: str, found: str) -> bool:
        """Whether a verdict is another, for this reason."""
        then = decided(found)
        return then != decided(sound) and then.startswith(self.answer) and self.says in then


@dataclass(frozen=True)
class Case:
    """An experiment in a small setting, and what is done to it.

    Attributes:
        settings: In place of the quick ones.
        sabotages: In words → how.
        smaller: What spares time in every run alike.
    """

    settings: dict[str, Any]
    sabotages: dict[str, Sabotage]
    smaller: tuple[Change, ...] = ()


@contextmanager
def changed(experiment: vb.Experiment, changes: tuple[Change, ...]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for where, by in changes:
            module, _, path = where.partition(":")
            if not module:
                own = experiment.measure.__globals__
                patched.setitem(own, path, by(own[path]))
                continue
            holder: Any = importlib.import_module(module)
            *parents, name = path.split(".")
            for parent in parents:
                holder = getattr(holder, parent)
            patched.setattr(holder, name, by(getattr(holder, name)))
        yield


TRAIN = ("vbayes:fit", "vbayes.training.result:Fit.resume")
EAGER: Change = ("vbayes:fit", lambda fit: functools.partial(fit, compile=False))
"""Whether compiling pays is found out by the clock, and numbers differ then in their last digits, which a training makes its first."""


class Course:
    """An experiment as its case has it, run as it is; `under` runs it with a sabotage, where that leaves training alone with the fits that there are."""

    def __init__(self, experiment: vb.Experiment, case: Case) -> None:
        self.experiment, self.case = experiment, case
        fits: dict[str, list[vb.Fit]] = {where: [] for where in TRAIN}
        keeping = [(where, makes(lambda fit, kept=kept: kept.append(fit) or fit)) for where, kept in fits.items()]
        self.fits, (self.table, self.sound) = fits, self._run(*keeping)

    def under(self, sabotage: Sabotage) -> str:
        """The verdict."""
        again = [(where, always(self._again(fits))) for where, fits in self.fits.items()]
        return self._run(*([] if sabotage.trains else again), *sabotage.changes)[1]

    @staticmethod
    def _again(fits: list[vb.Fit]) -> Callable[..., vb.Fit]:
        left = iter(fits)
        return lambda *args, **settings: next(left)

    def _run(self, *changes: Change) -> tuple[pd.DataFrame, str]:
        settings = {**self.experiment.full, **self.experiment.quick, **self.case.settings}
        with changed(self.experiment, (EAGER, *self.case.smaller, *changes)), vb.seeded(0):
            table = self.experiment.measure(**settings)
            return table, self.experiment.verdict(table)


class Instead:
    """A module of which some names lead elsewhere."""

    def __init__(self, module: Any, **names: Any) -> None:
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def instead(**names: Any) -> Callable[[Any], Instead]:
    return lambda module: Instead(module, **names)


def always(value: Any) -> Callable[[Any], Any]:
    return lambda right: value


def makes(other: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function or method that returns something else, made of what it should."""
    return lambda right: lambda *args, **settings: other(right(*args, **settings))


def climbs(surrogate: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """An estimator that reports its bound and climbs something else: of itself and the particles."""
    return lambda right: lambda self, p: replace(right(self, p), surrogate=surrogate(self, p))
