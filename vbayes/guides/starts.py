"""Ways to find a normal from a density, as the start of a guide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import Unsuitable
from .curvature import DRAWS, Form, Place, Places, along, apart, endless, improved, noise_of, path, starts_of, whole
from .large import bfgs_paths, mode_and_widths
from .log_density import LogDensity
from .other_modes import other_modes

STARTS = 4
BENT = 300  # dimensions up to which second derivatives are used
MANY = 2**27  # and the largest number of elements in computing them
MORE = 512  # maximum number of draws for natural gradients, limited further by:
HESSIANS = 2**14  # rows of Hessians
WORK = 2**29  # elements in computing all of these
NEAR = 100.0  # nats by which a normal at a mode may be worse than the best normal
APART = 10.0  # nats; a mode whose ELBO is further below matters little for the posterior
A_MODE = 1e-4  # nats that a Newton step would gain, at most

NEWTON, BFGS, NATURAL = "Newton's method", "L-BFGS", "Newton's method and natural gradients"

Start = Callable[[LogDensity, Form, int], Places]
"""(density, kind of normal, seed) → result of the search."""


def best_normal(density: LogDensity, form: Form, seed: int) -> Places:
    """Finds the normal with the best ELBO: the best of those along the paths to the modes, improved by natural gradients.

    If only one mode is found and there are few dimensions, other modes are searched for from more starts. With more than 300 dimensions the normal is centred at the mode, with widths from the diagonal of the curvature there.
    """
    if not bends(density):
        return Places(mode_and_widths(density, seed=seed), (), 0, how=BFGS)
    noise = noise_of(density, DRAWS, seed)
    found = _best_of_each_way(density, path(density, starts_of(density, STARTS, seed)), noise, form)
    if not found:
        return _ordered(density, found, STARTS, NATURAL)
    best = max(found, key=lambda place: place.elbo)
    found = [place for place in found if place is best or (place.elbo > best.elbo - NEAR and apart(place, best))]
    count = min(MORE, HESSIANS // density.size, WORK // (density.size * density.largest))
    noise = noise_of(density, max(DRAWS // 2, count), seed)
    places = _ordered(density, [improved(density, place, noise, form) for place in found], STARTS - len(found), NATURAL)
    if places.others or places.endless:
        return places
    return replace(places, others=other_modes(density, places.best, noise, form, seed))


def laplace(density: LogDensity, form: Form, seed: int) -> Places:
    """Finds the normal with the curvature at the mode; if no start reaches a mode, the best one along the way."""
    if not bends(density):
        return Places(mode_and_widths(density, seed=seed), (), 0, how=BFGS)
    noise = noise_of(density, DRAWS, seed)
    ways = path(density, starts_of(density, STARTS, seed))
    ends = [along(density, way[-1:], noise, form) for way in ways]
    modes = [
        replace(place, iterations=len(way) - 1)
        for way, end in zip(ways, ends, strict=True)
        for place in end
        if place.gain < A_MODE
    ]
    return _ordered(density, modes or _best_of_each_way(density, ways, noise, form), 0, NEWTON)


def pathfinder(paths: int) -> Start:
    """Finds the start by Pathfinder: of the normals that L-BFGS estimates along its path, the one with the best ELBO.

    Args:
        paths: Number of starts.
    """

    def start(density: LogDensity, form: Form, seed: int) -> Places:
        return _ordered(density, bfgs_paths(density, paths, noise_of(density, DRAWS, seed), seed), 0, BFGS)

    return start


def at(place: Place, others: tuple[Place, ...] = ()) -> Start:
    """Uses a normal that is already known.

    Args:
        place: The normal.
        others: Normals at other modes.
    """
    return lambda density, form, seed: Places(place, others, 0)


@dataclass(frozen=True)
class Mode:
    """The highest point that was found.

    Attributes:
        values: Site → its unconstrained value.
        settled: Whether it is a mode, as far as checked.
        height: log p(x, z) there, in nats.
        iterations, how: Number of iterations, and the method.
    """

    values: dict[str, Tensor]
    settled: bool
    height: float
    iterations: int
    how: str


def mode(density: LogDensity, seed: int) -> Mode:
    """Finds the mode by Newton's method from some starts; by L-BFGS if there are many dimensions."""
    if not bends(density):
        place = mode_and_widths(density, seed=seed)
        height = float(density.many(place.centre[None])[0])
        return Mode(density.values(place.centre), False, height, place.iterations, BFGS)
    ways = path(density, starts_of(density, STARTS, seed))
    heights = density.many(torch.stack([way[-1] for way in ways]))
    best = int(heights.argmax())
    highest = ways[best][-1]
    there = along(density, highest[None], noise_of(density, 2, seed), whole)
    settled = bool(there) and there[0].gain < A_MODE
    return Mode(density.values(highest), settled, float(heights[best]), len(ways[best]) - 1, NEWTON)


def bends(density: LogDensity) -> bool:
    """Whether second derivatives are affordable."""
    return density.size <= BENT and density.size * density.largest <= MANY


def _best_of_each_way(density: LogDensity, ways: list[Tensor], noise: Tensor, form: Form) -> list[Place]:
    looked = [along(density, way, noise, form) for way in ways]
    return [max(places, key=lambda place: place.elbo) for places in looked if places]


def _ordered(density: LogDensity, found: list[Place], failed: int, how: str) -> Places:
    if not found:
        raise Unsuitable(
            "From no start was a point found where the model's density and its derivatives are finite. Wanted: priors and a likelihood that are finite near zero "
            "(unconstrained), or a guide of your own with initial values."
        )
    best = max(found, key=lambda place: place.elbo)
    others: list[Place] = []
    for place in found:
        if place.elbo > best.elbo - APART and all(apart(place, other) for other in (best, *others)):
            others.append(place)
    return Places(best, tuple(others), failed, endless(density, best), how)
