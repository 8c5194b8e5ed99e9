"""What a verb takes for a pair: a pair, what was trained, or a model alone, whose guide comes by itself. The one place that makes a pair of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeGuard, runtime_checkable

from ..arguments import kind as arguments
from ..arguments.said import type_of
from ..data.dataset import Dataset
from ..errors import BadInput, Unsuitable
from ..guides import AUTO, in_words
from .pair import Pair


@runtime_checkable
class Trained(Protocol):
    """What has a trained pair and the data that it was trained on: a `Fit`, a `MonteCarloEM`."""

    @property
    def pair(self) -> Pair: ...
    @property
    def data(self) -> Dataset: ...


Model = Pair | Trained | Callable[..., Any]


def is_trained(value: Any) -> TypeGuard[Trained]:
    """Whether it is; things that somebody hands in by mistake may answer the question with an error, as some arrays do."""
    try:
        return isinstance(value, Trained)
    except Exception:
        return False


def paired(pair: Any, guide: Any = None, *, otherwise: str = AUTO) -> Any:
    """A pair, of a model and a guide where it is none yet; what is neither is handed back.

    Args:
        pair: A pair, what was trained, or a model.
        guide: For a model: a guide, or a word for one.
        otherwise: The word where that is None.

    Raises:
        BadInput: A guide for what has one.
    """
    if isinstance(pair, Pair) or is_trained(pair) or not callable(pair):
        if guide is not None:
            raise BadInput(
                f"guide={guide!r} for a {type(pair).__name__}. Wanted: a model alone, or vb.Pair(model, guide)."
            )
        return pair
    return Pair(pair, otherwise if guide is None else guide)


def pair_of(pair: Model) -> Pair:
    """The pair of whatever has one, or that a model makes.

    Raises:
        BadInput: It is no pair, and makes none.
    """
    made = paired(pair)
    if is_trained(made):
        return made.pair
    if not isinstance(made, Pair):
        arguments.refuse(
            "pair", pair, got=f"{type_of(pair)}, and no pair", wanted="a vb.Pair, a model, whose guide comes by itself, or a vb.Fit of one", mend="vb.Pair(model, guide)",
        )  # fmt: skip
    return made


def require_guide_of_rows(pair: Pair, verb: str, mend: str = "") -> None:
    """Raises `Unsuitable` where a guide that comes by a word stands before what goes row by row.

    Args:
        pair: Initialised.
        verb: What goes row by row.
        mend: What else may be done.
    """
    if pair.word is not None:
        raise Unsuitable(
            f"{verb} goes row by row, with a guide that computes the latents of a row from the row. The guide of {pair.name!r}, a {in_words(pair.guide)} that came without one of "
            f"yours, has the latents of all rows together. Wanted: vb.Pair(model, guide) with such a guide, as vb.pairs.vae() has it{mend}."
        )
