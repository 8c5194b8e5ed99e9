"""The guide of a saved fit, if it was chosen by name: its kind and the start that it found, so that the search need not be repeated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from ..errors import BadInput
from ..guides import AUTO, GUIDES, Point, Whitened
from ..guides.curvature import Place, Places
from ..guides.search import Search
from ..pair.pair import Pair

OPTIONS = ("rank", "layers", "units")  # options that determine its size
NUMBERS = ("elbo", "gain", "settled", "iterations")  # attributes of a place, besides its tensors


def described(pair: Pair, tensors: dict[str, Tensor]) -> dict[str, Any] | None:
    """The description of a guide for a file; None for a user-defined guide, or one that has not searched yet.

    Args:
        pair: The pair of the fit.
        tensors: The tensors of the file, to which those of the guide's places are added.
    """
    guide: Any = pair.guide
    told = {"word": pair.word, "seed": getattr(guide, "_seed", 0)}
    if pair.word is None:
        return None
    if isinstance(guide, Point):
        return told | {"settled": guide.settled, "search": vars(guide.search)} if guide.search else None
    if not isinstance(guide, Whitened) or guide.places is None:
        return None
    found = guide.places
    every = (found.best, *found.others)
    for number, place in enumerate(every):
        tensors[f"place.{number}.centre"] = place.centre.detach().cpu().contiguous()
        tensors[f"place.{number}.root"] = place.root.detach().cpu().contiguous()
    options = {name: getattr(guide, name) for name in OPTIONS if hasattr(guide, name)}
    places = [{name: getattr(place, name) for name in NUMBERS} for place in every]
    about = {"failed": found.failed, "endless": list(found.endless), "how": found.how, "seconds": found.seconds}
    return told | {"options": options, "places": places, **about}


def guided(pair: Pair, told: Any, tensors: Mapping[str, Tensor]) -> Pair:
    """The pair with the guide of a file, at its saved place; with guide="auto" a model takes whichever guide it is.

    Raises:
        BadInput: The pair has a different guide.
        ValueError, KeyError, TypeError: The description is not that of a guide.
    """
    if told is None:
        return pair
    word = told["word"]
    if word not in GUIDES:
        raise ValueError(f"{word!r:.80}, and wanted is one of {', '.join(GUIDES)}")
    if pair.word not in (word, AUTO):
        own = "a user-defined guide" if pair.word is None else f"guide={pair.word!r}"
        raise BadInput(
            f"The file holds a fit with guide={word!r}, and pair {pair.name!r} has {own}. Wanted: vb.Pair(model), which takes the guide of the file, or vb.Pair(model, {word!r})."
        )
    if pair.word == word and pair.parameters:
        return pair
    (model,) = pair.guide._plain  # type: ignore[attr-defined]
    guide = GUIDES[word](model, seed=_whole(told["seed"], 2**64), **_options(told.get("options", {}), tensors))
    if isinstance(guide, Point):
        guide.placed(
            Search(**{field.name: told["search"][field.name] for field in fields(Search)}), told["settled"] is True
        )
    else:
        guide.placed(_places(told, tensors))
    return Pair(model, guide, name=pair.name, exact=pair.exact)


def _options(told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Sizes, which must not exceed those of the file's own tensors."""
    most = max(len(tensors), *(tensor.numel() for tensor in tensors.values()))
    return {
        name: None if told[name] is None and name == "rank" else _whole(told[name], most)
        for name in OPTIONS
        if name in told
    }


def _places(told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Places:
    every = []
    for number, numbers in enumerate(told["places"]):
        centre, root = (tensors[f"place.{number}.{what}"] for what in ("centre", "root"))
        size = len(centre)
        if centre.shape != (size,) or root.shape not in ((size, size), (size,)) or not root.isfinite().all():
            raise ValueError(f"place {number} has shapes {tuple(centre.shape)} and {tuple(root.shape)}")
        elbo, gain = (_number(numbers[name]) for name in ("elbo", "gain"))
        every.append(Place(centre, root, elbo, gain, numbers["settled"] is True, _whole(numbers["iterations"], 2**32)))
    best, *others = every
    endless, how = told["endless"], told["how"]
    if not isinstance(how, str) or not all(isinstance(name, str) for name in endless):
        raise TypeError("wanted are names")
    failed, seconds = _whole(told["failed"], 2**32), _number(told["seconds"])
    return Places(best, tuple(others), failed, tuple(endless), how, seconds)


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r:.80}, and wanted is a whole number up to {most}")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r:.80}, and wanted is a number")
    return float(value) if not math.isinf(value) else math.nan
