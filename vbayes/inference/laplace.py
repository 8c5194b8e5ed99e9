"""The Laplace approximation."""

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
def laplace(model: Callable[..., Any], data: Any, *, seed: int | None = None, device: str = "auto") -> Fit:
    """Computes the Laplace approximation: a normal centred at the mode, with the curvature there, in unconstrained space; discrete latents are summed out.

    Newton's method climbs from four starting points. If none of them reaches a mode, as in a funnel, the normal with the best ELBO along the way is used.
    With more than 300 numbers, L-BFGS finds the mode, and only the standard deviations come from the curvature.

    Args:
        model: A Pyro model.
        data: As for `fit`.
        seed: Seed for what is done with the fit, as for `fit`; the search has its own fixed seed.
        device: As for `fit`.

    Returns:
        A `Fit` with zero steps, for `posterior`, `diagnose` and so on, or to continue from: `fit.resume(steps=1000)`.

    Raises:
        Unsuitable: There is no continuous latent, or a discrete one can't be summed out; or no start leads to a point of finite density.

    References:
        Tierney & Kadane 1986; MacKay 2003, Information theory, inference, and learning algorithms, chapter 27.

    Examples:
        >>> fit = vb.laplace(model, {"x": x, "y": y})
        >>> fit.posterior().mean()
    """
    return fit(Pair(model, Full(model, start=starts.laplace)), data, steps=0, seed=seed, device=device, progress=False)
