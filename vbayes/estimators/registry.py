"""Every estimator by its name, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields

from pyro.infer import ELBO

from ..arguments.kind import refuse
from ..errors import UnknownName
from .base import Estimator

ESTIMATORS: dict[str, type[Estimator]] = {}
"""Name on the command line, which is that of its file → class, for what `vbayes.estimators` imports, in its order."""


def register(things: Iterable[object]) -> None:
    """Makes the estimators among some things known."""
    for kind in things:
        if isinstance(kind, type) and issubclass(kind, Estimator) and kind is not Estimator:
            ESTIMATORS[kind.__module__.rpartition(".")[2]] = kind


def resolve(estimator: str | type[ELBO] | ELBO) -> ELBO:
    """An estimator from its name, its class, or itself; any other `pyro.infer.ELBO` passes through.

    Raises:
        UnknownName: No estimator has this name.
        BadInput: Neither a name nor an estimator.
    """
    if isinstance(estimator, str):
        if estimator not in ESTIMATORS:
            raise UnknownName("estimator", estimator, ESTIMATORS)
        return ESTIMATORS[estimator]()
    if isinstance(estimator, type) and issubclass(estimator, ELBO):
        return estimator()
    if isinstance(estimator, ELBO):
        return estimator
    wanted = f"a name ({', '.join(ESTIMATORS)}), or an object such as vb.STL() or pyro.infer.Trace_ELBO()"
    refuse("estimator", estimator, got="no estimator", wanted=wanted, mend="estimator='analytic_kl'")


def name_of(estimator: ELBO) -> str:
    """What tables call it: its registered name or class, with what is not its default."""
    kind: type = type(estimator)
    name = next((name for name, known in ESTIMATORS.items() if known is kind), kind.__name__)
    if not isinstance(estimator, Estimator):
        k = getattr(estimator, "num_particles", 1)
        return name if k == 1 else f"{name}({k})"
    changed = {
        f.name: getattr(estimator, f.name)
        for f in fields(estimator)
        if f.repr and (f.default is MISSING or getattr(estimator, f.name) != f.default)
    }
    if not changed:
        return name
    (first, value), *more = changed.items()
    if first == "num_particles" and not more:
        return f"{name}({value})"
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in changed.items())})"
