"""The mode of the posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arguments.function import MODEL
from ..arguments.takes import takes
from ..guides import Point
from ..pair.pair import Pair
from ..training.fit import fit
from ..training.result import Fit
from ..training.settled import settled


@takes(model=MODEL)
def find_map(model: Callable[..., Any], data: Any, *, seed: int | None = None, device: str = "auto") -> Fit:
    """Finds the maximum a posteriori (MAP) values of the latents, in their constrained space, as Pyro's `AutoDelta` and Stan's `optimize` do.

    Uses Newton's method from four starting points, or L-BFGS if there are more than 300 numbers. Discrete latents are summed out.

    Args:
        model: A Pyro model.
        data, seed, device: As for `laplace`.

    Returns:
        A `Fit` with zero steps, whose `parameters` are the values: `fit.parameters["Point.mu"]`. A point has no spread, and so no draws and no k̂; use `vb.laplace` for those.

    Raises:
        Unsuitable: As for `laplace`.

    Examples:
        >>> fit = vb.find_map(model, {"x": x, "y": y})
    """
    found = fit(Pair(model, Point(model)), data, steps=0, seed=seed, device=device, progress=False)
    return settled(found) or found
