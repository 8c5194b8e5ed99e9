"""The contract of estimator classes, checked at first use: an error says what is wrong and how to fix it.

The checks only look at names and shapes, so they also work during capture, and cost no computation.
"""

from __future__ import annotations

import inspect
from collections.abc import Set
from dataclasses import fields
from typing import Any

from torch import Tensor

from ..arguments.choice import FLAG
from ..arguments.kind import Kind, Optional
from ..arguments.real import Real
from ..arguments.whole import Whole
from ..drawing.base_noise import NOISE
from ..drawing.particles import Particles
from ..drawing.request import FIELDS, Request
from ..errors import BadEstimator, BadInput, UnknownName
from .estimate import Estimate

LIMITS: dict[str, Kind] = {
    "noise": NOISE, "max_plate_nesting": Real(finite=False), "vectorize_particles": FLAG, "retain_graph": Optional(FLAG), "strict_enumeration_warning": FLAG,
}  # fmt: skip
"""Kinds of the settings that every estimator has."""
PARTS = ("guide", "model")
BY_TYPE: dict[str, Kind] = {"int": Whole(None), "float": Real(finite=False), "bool": FLAG}


def check_class(estimator: Any) -> None:
    """Raises `BadEstimator` if the class of an estimator is not a dataclass but should be, or its claims are missing or unknown."""
    kind = type(estimator)
    for cls in kind.__mro__:
        if hasattr(cls, "__dataclass_fields__"):
            _check_types(cls)
    if getattr(estimator, "needs", None) is None:
        raise BadEstimator(
            f"{kind.__name__} has no `needs`. Wanted: the fields of vb.Particles that its `estimate` reads, as in\n"
            f'    needs = frozenset({{"log_p", "log_q"}})\nFields: {", ".join(FIELDS)}.'
        )
    try:
        request_of(estimator)
        check_parts(estimator.unbiased_in)
    except BadInput as error:
        raise BadEstimator(f"{kind.__name__}: {error}") from None


def check_parts(unbiased_in: Any) -> None:
    """Raises `BadInput` for a claim about anything but "model" and "guide"."""
    if not isinstance(unbiased_in, Set):
        raise BadInput(f"unbiased_in={unbiased_in!r}. Wanted: a set of names, such as frozenset({{'guide'}}).")
    for name in unbiased_in:
        if name not in PARTS:
            raise UnknownName("part of a pair", str(name), PARTS)


def check_settings(estimator: Any) -> None:
    """Raises `BadInput` for an invalid setting; valid settings are converted to Python's types, such as a 2 of NumPy."""
    kind = type(estimator)
    limits = {"num_particles": Whole(kind.min_particles, drawn=True), **LIMITS, **kind.limits}
    for setting in fields(estimator):
        found = limits.get(setting.name) or BY_TYPE.get(str(setting.type))
        if setting.init and found is not None:
            value = found(f"{kind.__name__}({setting.name}", getattr(estimator, setting.name))
            object.__setattr__(estimator, setting.name, value)


def _check_types(cls: type) -> None:
    """Raises `BadEstimator` for a class that sets values without being a dataclass or without type annotations: the inherited defaults would silently be kept."""
    own = {name for name, kind in inspect.get_annotations(cls).items() if "ClassVar" not in str(kind)}
    if "__dataclass_fields__" not in vars(cls):
        inherited = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        if set_here := sorted(own | (inherited & set(vars(cls)))):
            raise BadEstimator(
                f"{cls.__name__} sets {', '.join(set_here)} but is not itself a dataclass, so they would not become settings. "
                f"Write @dataclass(frozen=True) above `class {cls.__name__}`."
            )
    elif bare := sorted({f.name for f in fields(cls) if f.name in vars(cls)} - own):  # type: ignore[arg-type]
        raise BadEstimator(
            f"{cls.__name__} sets {', '.join(bare)} without a type annotation, so the dataclass keeps the inherited default. Write for example "
            f"`{bare[0]}: {type(vars(cls)[bare[0]]).__name__} = {vars(cls)[bare[0]]!r}`."
        )


def request_of(estimator: Any) -> Request:
    """The requirements of an estimator on its draws."""
    return Request.of(estimator.needs, estimator.requires, estimator.families)


def check_estimate(estimator: Any, found: Any, particles: Particles) -> None:
    """Raises `BadEstimator` for anything but an `Estimate` of shape (*local)."""
    name = f"{type(estimator).__name__}.estimate"
    if not isinstance(found, Estimate):
        raise BadEstimator(
            f"{name} returned {_said(found)}. Wanted: vb.Estimate(value, surrogate), or vb.Estimate.of(surrogate) if the surrogate is "
            "the bound itself."
        )
    for part in ("value", "surrogate", "control", "auxiliary"):
        got = getattr(found, part)
        if part in ("control", "auxiliary") and got is None:
            continue
        if not isinstance(got, Tensor):
            raise BadEstimator(f"{name} returned {_said(got)} for its {part}. Wanted: a tensor.")
        if got.shape != particles.local:
            raise BadEstimator(
                f"{name} returned a {part} of shape {tuple(got.shape)}. Wanted: {particles.local}, the shape *local of the plates that all "
                f"sites share. {_mend(tuple(got.shape), particles.local)}"
            )
    if found.value.requires_grad:
        raise BadEstimator(
            f"{name} returned a value that carries a gradient. Wanted: a constant; write value.detach()."
        )


def _mend(got: tuple[int, ...], local: tuple[int, ...]) -> str:
    if got[1:] == local:
        return "The first dimension is that of the particles: average over it, as in `.mean(0)`."
    if got == ():
        return "Sum over particles only, as in `.sum(0)`; the sum over the data is taken later."
    return "Fields are (K, *local): reduce only the first dimension, that of the K particles."


def _said(thing: Any) -> str:
    return (
        f"a tensor of shape {tuple(thing.shape)}"
        if isinstance(thing, Tensor)
        else f"{type(thing).__name__} {thing!r}"[:200]
    )
