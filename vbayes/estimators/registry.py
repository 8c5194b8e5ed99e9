"""The registry of estimators by name."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Any

from pyro.infer import ELBO

from ..arguments.kind import refuse
from ..errors import UnknownKeyword, UnknownName, near
from .base import Estimator

ESTIMATORS: dict[str, type[Estimator]] = {}
"""Name on the command line, which is that of the file → class, for all that `vbayes.estimators` imports, in that order."""


def register(things: Iterable[object]) -> None:
    """Registers those of the given objects that are estimators."""
    for kind in things:
        if isinstance(kind, type) and issubclass(kind, Estimator) and kind is not Estimator:
            ESTIMATORS[kind.__module__.rpartition(".")[2]] = kind


def resolve(estimator: str | type[ELBO] | ELBO) -> ELBO:
    """Returns an estimator, given its name, its class, or an instance; any other `pyro.infer.ELBO` is returned unchanged.

    A name may include settings, as `name_of` writes them: "iwae(64)" has 64 particles, "beta(beta=2)" has β = 2. Strings need no quotes.

    Raises:
        UnknownName: No estimator has this name.
        UnknownKeyword: A setting that it does not have.
        BadInput: It is neither a name nor an estimator, or a setting has the wrong type.
    """
    if isinstance(estimator, str):
        name, bracket, _ = estimator.partition("(")
        kind = ESTIMATORS.get(name.strip())
        if kind is None:
            raise UnknownName("estimator", name.strip(), ESTIMATORS)
        return kind(**_settings(estimator, settings_of(kind))) if bracket else kind()
    if isinstance(estimator, type) and issubclass(estimator, ELBO):
        return estimator()
    if isinstance(estimator, ELBO):
        return estimator
    wanted = f"a name ({', '.join(ESTIMATORS)}), or an object such as vb.STL() or pyro.infer.Trace_ELBO()"
    refuse("estimator", estimator, got="not an estimator", wanted=wanted, mend="estimator='analytic_kl'")


def settings_of(kind: type[Estimator]) -> dict[str, str]:
    """Setting → its default as text, for the settings that change what an estimator does; the first is the number of particles."""
    own = [f for f in fields(kind) if f.init and f.repr]
    return {f.name: "..." if f.default is MISSING else repr(f.default) for f in own}


def _settings(text: str, known: dict[str, str]) -> dict[str, Any]:
    """Parses the settings in the brackets of "iwae(64, noise='sobol')"."""
    wanted = ", ".join(f"{name}={value}" for name, value in known.items())
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or len(call.args) > 1:
            raise ValueError
        given = [("num_particles", node) for node in call.args]
        given += [(str(word.arg), word.value) for word in call.keywords]
        found = {name: node.id if isinstance(node, ast.Name) else ast.literal_eval(node) for name, node in given}
        if len(found) < len(given):
            raise ValueError
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        example = text.partition("(")[0].strip() + "(4)"
        refuse("estimator", text, got="not understood", wanted=f"a name with settings among {wanted}", mend=example)
    for name in found:
        if name not in known:
            raise UnknownKeyword(f"{text} has no setting {name!r}. {near(name, known)}\nIts settings: {wanted}.")
    return found


def name_of(estimator: ELBO) -> str:
    """The name of an estimator in tables: its registered name or class, with the settings that are not default."""
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
