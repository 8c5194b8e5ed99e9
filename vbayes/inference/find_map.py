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
    """The latents of the highest posterior density (maximum a posteriori), in their own space, as Pyro's `AutoDelta` and Stan's `optimize` have it.

    Newton's method from four starts, or L-BFGS where there are more than 300 numbers. Discrete latents are summed out.

    Args:
        model: A Pyro model.
        data, seed, device: As for `laplace`.

    Returns:
        `Fit` of no steps, whose `parameters` are the values: `fit.parameters["Point.mu"]`. It has no spread, and so no draws and no k̂; `vb.laplace` has one.

    Raises:
        Unsuitable: As for `laplace`.

    Examples:
        >>> fit = vb.find_map(model, {"x": x, "y": y})
    """
    found = fit(Pair(model, Point(model)), data, steps=0, seed=seed, device=device, progress=False)
    return settled(found) or found
