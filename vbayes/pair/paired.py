"""What functions accept as a pair: a pair, a trained object, or a model alone, for which a guide is made. All pairs of models alone are made here."""

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
    """An object with a trained pair and the data that it was trained on: a `Fit`, a `MonteCarloEM`."""

    @property
    def pair(self) -> Pair: ...
    @property
    def data(self) -> Dataset: ...


Model = Pair | Trained | Callable[..., Any]


def is_trained(value: Any) -> TypeGuard[Trained]:
    """Whether a value is `Trained`; False for values that raise an error when asked, as some arrays do."""
    try:
        return isinstance(value, Trained)
    except Exception:
        return False


def paired(pair: Any, guide: Any = None, *, otherwise: str = AUTO) -> Any:
    """Makes a pair of a model alone; anything else is returned unchanged.

    Args:
        pair: A pair, a trained object, or a model.
        guide: For a model: a guide, or the name of one.
        otherwise: The name to use if `guide` is None.

    Raises:
        BadInput: A guide was given for something that already has one.
    """
    if isinstance(pair, Pair) or is_trained(pair) or not callable(pair):
        if guide is not None:
            raise BadInput(
                f"guide={guide!r} for a {type(pair).__name__}. Wanted: a model alone, or vb.Pair(model, guide)."
            )
        return pair
    return Pair(pair, otherwise if guide is None else guide)


def pair_of(pair: Model) -> Pair:
    """The pair of a trained object, or one made of a model alone.

    Raises:
        BadInput: It is not a pair, and no pair can be made of it.
    """
    made = paired(pair)
    if is_trained(made):
        return made.pair
    if not isinstance(made, Pair):
        arguments.refuse(
            "pair", pair, got=f"{type_of(pair)}, not a pair", wanted="a vb.Pair, a vb.Fit, or a model, for which a guide is made", mend="vb.Pair(model, guide)",
        )  # fmt: skip
    return made


def require_guide_of_rows(pair: Pair, verb: str, mend: str = "") -> None:
    """Raises `Unsuitable` if a pair has a guide chosen by name, for functions that work row by row.

    Args:
        pair: Initialised.
        verb: The function that works row by row.
        mend: An alternative to name in the message.
    """
    if pair.word is not None:
        raise Unsuitable(
            f"{verb} works row by row, which needs an amortized guide, one that computes the latents of a row from that row. The guide of {pair.name!r}, a {in_words(pair.guide)} "
            f"that was made automatically, has the latents of all rows together. Wanted: vb.Pair(model, guide) with an amortized guide, as in vb.pairs.vae(){mend}."
        )
