"""Compares the support of a guide with that of the model's latents.

A guide that can't draw all values is still valid, and its ELBO a bound; but the weights of its draws can't reveal what it leaves out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Literal

import pyro
import torch
from torch import Tensor
from torch.distributions import AffineTransform, ComposeTransform, TransformedDistribution, constraints

from .. import rng
from ..validation import validation
from .sites import is_point_mass, sites

Coverage = Literal["same", "smaller", "larger", "overlapping", "of another kind"]
DRAWS = 100  # draws from a distribution whose support has no ends, to test whether the other support contains them
CLOSE = 1e-6  # tolerated difference of two ends, relative to their size


def coverage(ours: Any, theirs: Any) -> Coverage:
    """The support of a guide's site, compared with that of the model's.

    Intervals are compared by their ends, without distinguishing open from closed ones; other supports (a simplex, a matrix) by draws from one
    distribution that the other's support should contain.

    Args:
        ours: The guide's distribution.
        theirs: The model's.
    """
    q, p = (_inside(_support(fn)) for fn in (ours, theirs))
    if bool(q.is_discrete) != bool(p.is_discrete):
        return "of another kind"
    q_ends, p_ends = _ends(q), _ends(p)
    if q_ends is None or p_ends is None:
        if type(q) is type(p):
            return "same"
        short, long = not _holds(ours, theirs), not _holds(theirs, ours)
    else:
        (q_low, q_high), (p_low, p_high) = q_ends, p_ends
        short = _above(q_low, p_low) or _above(p_high, q_high)
        long = _above(p_low, q_low) or _above(q_high, p_high)
    return "overlapping" if short and long else "smaller" if short else "larger" if long else "same"


def coverages(q: pyro.poutine.Trace, p: pyro.poutine.Trace) -> dict[str, Coverage]:
    """Site → `coverage`, for the latents that guide and model share, except for point masses."""
    theirs: dict[str, Any] = dict(p.nodes)
    found: dict[str, Coverage] = {}
    for site in sites(q):
        name = site["name"]
        if site["is_observed"] or name not in theirs or is_point_mass(site["fn"]):
            continue
        try:
            with rng.seeded(0), torch.no_grad(), validation(False):
                found[name] = coverage(site["fn"], theirs[name]["fn"])
        except (
            NotImplementedError,
            AttributeError,
            RuntimeError,
            ValueError,
        ):  # a distribution that does not know its support
            continue
    return found


def uncovered(q: pyro.poutine.Trace, p: pyro.poutine.Trace) -> tuple[str, ...]:
    """The sites at which a guide leaves out a part of the model's support."""
    return tuple(name for name, found in coverages(q, p).items() if found in ("smaller", "overlapping"))


def missed(names: tuple[str, ...]) -> str:
    """The same as a sentence for a verdict; empty if nothing is left out."""
    if not names:
        return ""
    where = f"site{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"
    return f" The guide can't draw all values that {where} may have, and the weights of its draws can't reveal what it leaves out: use a guide over the model's support."


def _support(fn: Any) -> Any:
    """A distribution's support. torch takes the values of every affine transform for any real numbers, such as those of `biject_to(constraints.interval(0, 2))`."""
    level = fn
    while hasattr(level, "base_dist") and not isinstance(level, TransformedDistribution):
        level = level.base_dist
    own = type(level).support is not TransformedDistribution.support  # as that of a Pareto, which begins at its scale
    parts = [] if own else _parts(getattr(level, "transforms", ()))
    last = len(parts)
    while last and isinstance(parts[last - 1], AffineTransform):
        last -= 1
    ends = _ends(_inside(parts[last - 1].codomain if last else level.base_dist.support)) if last < len(parts) else None
    if ends is None:
        return fn.support
    for part in parts[last:]:
        one, other = (torch.as_tensor(part.loc + part.scale * end).cpu() for end in ends)
        ends = torch.minimum(one, other), torch.maximum(one, other)
    return constraints.interval(*ends)


def _parts(transforms: Iterable[Any]) -> list[Any]:
    return [
        part for each in transforms for part in (_parts(each.parts) if isinstance(each, ComposeTransform) else [each])
    ]


def _inside(support: Any) -> Any:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _ends(support: Any) -> tuple[Tensor, Tensor] | None:
    """Lower and upper end of an interval, on the CPU."""
    if support is constraints.boolean:
        low, high = 0.0, 1.0
    elif support is constraints.real or hasattr(support, "lower_bound") or hasattr(support, "upper_bound"):
        low, high = getattr(support, "lower_bound", -torch.inf), getattr(support, "upper_bound", torch.inf)
    else:
        return None
    return torch.as_tensor(low, dtype=torch.float64, device="cpu"), torch.as_tensor(
        high, dtype=torch.float64, device="cpu"
    )


def _above(one: Tensor, other: Tensor) -> bool:
    """Whether one end is above another one somewhere, by more than rounding."""
    one, other = torch.broadcast_tensors(one, other)
    return bool(((one > other) & ~torch.isclose(one, other, rtol=CLOSE, atol=CLOSE)).any())


def _holds(one: Any, other: Any) -> bool:
    """Whether the support of one distribution contains the draws of another."""
    draw: Callable[[], Tensor] = functools.partial(other.sample, (DRAWS,))
    return bool(one.support.check(draw()).all())
