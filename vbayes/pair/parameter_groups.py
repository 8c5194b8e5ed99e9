"""Groups of parameters: the guide's locations, its scales, and the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro.distributions import Delta
from torch import Tensor

from ..arguments.choice import TEXT, Choice
from ..arguments.instance import Instance
from ..arguments.kind import Either, Mapped, Several
from ..arguments.takes import takes
from ..data.dataset import Batch
from ..errors import BadInput
from .check import initialised, require_parameters
from .pair import Pair
from .paired import Model, pair_of
from .sites import sites

GROUPS = Either(Choice(("role", "parameter")), Mapped(Several(TEXT, 0)))
Groups = dict[str, tuple[str, ...]]
"""Group → names of its parameters."""


@takes(by=GROUPS, batch=Instance(Batch, "a vb.Batch", "vb.Batch((x,))"))
def parameter_groups(pair: Model, batch: Batch, by: str | Mapping[str, Sequence[str]] = "role") -> Groups:
    """Groups the parameters of a pair by role; the group "all" has all of them.

    Args:
        pair: Model and guide.
        batch: Arguments for model and guide.
        by: "role" groups parameters by what they affect: "guide location" only the locations of the guide's
            sites, "guide scale" only their scales, "guide (shared)" both, or a family without the two; "model" only
            the model. "parameter" puts each in its own group. A mapping gives the groups directly.

    Raises:
        BadInput: `by` is another string, or a mapping with an unknown parameter.
        BadPair: The pair has no parameters.
    """
    pair = pair_of(pair)
    pair = pair if pair.parameters else initialised(pair.copy(), batch)
    require_parameters(pair)
    names = tuple(pair.parameters)
    if isinstance(by, Mapping):
        if unknown := sorted({name for group in by.values() for name in group} - set(names)):
            raise BadInput(
                f"Pair {pair.name!r} has no parameters {', '.join(unknown)}. Wanted: some of {', '.join(names)}."
            )
        found: Groups = {group: tuple(members) for group, members in by.items()}
    elif by == "parameter":
        found = {name: (name,) for name in names}
    else:
        found = _by_role(pair, batch)
    return found if len(found) == 1 and "all" in found else found | {"all": names}


def _by_role(pair: Pair, batch: Batch) -> Groups:
    with pair.look():
        q, _ = pair.run(batch)
        heads: dict[str, list[Tensor]] = {"location": [], "scale": [], "other": []}
        for site in sites(q):
            for kind, tensor in _heads(site["fn"]):
                heads[kind].append(tensor)
        reached = {kind: _reached(tensors, pair.leaves) for kind, tensors in heads.items()}
        drawn = [t for s in sites(q) for t in (s["value"], s["fn"].log_prob(s["value"], *s["args"], **s["kwargs"]))]
        reached["other"] |= _reached(drawn, pair.leaves) - reached["location"] - reached["scale"]
    found: dict[str, list[str]] = {"guide location": [], "guide scale": [], "guide (shared)": [], "model": []}
    for name in pair.parameters:
        location, scale, other = (name in reached[kind] for kind in ("location", "scale", "other"))
        role = (
            "guide (shared)" if other or (location and scale) else
            "guide location" if location else
            "guide scale" if scale else
            "model"
        )  # fmt: skip
        found[role].append(name)
    return {role: tuple(names) for role, names in found.items() if names}


def _heads(fn: Any) -> list[tuple[str, Tensor]]:
    """The tensors that a guide site is made of."""
    while hasattr(fn, "base_dist") and not (hasattr(fn, "loc") and hasattr(fn, "scale")):
        fn = fn.base_dist
    if isinstance(fn, Delta):  # a transformed copy of another site
        return []
    kinds = {"loc": "location", "mean": "location", "scale": "scale", "scale_tril": "scale"}
    found = [(kinds[name], getattr(fn, name)) for name in ("loc", "scale", "scale_tril") if hasattr(fn, name)]
    if found:
        return found
    return [("other", getattr(fn, name)) for name in fn.arg_constraints if isinstance(getattr(fn, name, None), Tensor)]


def _reached(tensors: list[Tensor], leaves: Mapping[str, Tensor]) -> set[str]:
    live = [t.sum() for t in tensors if t.requires_grad]
    if not live:
        return set()
    gradients = torch.autograd.grad(
        torch.stack(live).sum(), list(leaves.values()), allow_unused=True, retain_graph=True
    )
    return {name for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}
