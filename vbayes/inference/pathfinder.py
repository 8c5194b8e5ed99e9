"""Pathfinder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arguments.function import MODEL
from ..arguments.takes import takes
from ..guides import Full, starts
from ..pair.pair import Pair
from ..training.fit import fit
from ..training.result import Fit


@takes(model=MODEL)
def pathfinder(
    model: Callable[..., Any], data: Any, *, paths: int = 4, seed: int | None = None, device: str = "auto"
) -> Fit:
    """The normal of the best ELBO along the path of a quasi-Newton optimiser, with the optimiser's estimate of the curvature there.

    It needs gradients alone. Several paths start apart, and the normal of the best ELBO of all of them is taken.

    Args:
        model: A Pyro model; discrete latents are summed out.
        data: As for `fit`.
        paths: Starts of L-BFGS.
        seed, device: As for `laplace`.

    Returns:
        `Fit` of no steps, for `posterior`, `diagnose` and all else, or to go on from.

    Raises:
        BadInput: `paths` below 1.
        Unsuitable: As for `laplace`.

    References:
        Zhang, Carpenter, Gelman & Vehtari 2022, Pathfinder: parallel quasi-Newton variational inference, arXiv:2108.03782.

    Examples:
        >>> fit = vb.pathfinder(model, {"x": x, "y": y}, paths=8)
    """
    guide = Full(model, start=starts.pathfinder(paths))
    return fit(Pair(model, guide), data, steps=0, seed=seed, device=device, progress=False)
