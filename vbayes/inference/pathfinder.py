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
    """Runs Pathfinder: picks the normal with the best ELBO along the path of a quasi-Newton optimiser, with the optimiser's estimate of the curvature.

    It needs only gradients. Several paths start from different points, and the normal with the best ELBO over all of them is taken.

    Args:
        model: A Pyro model; discrete latents are summed out.
        data: As for `fit`.
        paths: Number of L-BFGS runs.
        seed, device: As for `laplace`.

    Returns:
        A `Fit` with zero steps, for `posterior`, `diagnose` and so on, or to continue from.

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
