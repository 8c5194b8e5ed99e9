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
    """The Laplace approximation: a normal at the mode with the curvature there, in unconstrained space; discrete latents are summed out.

    Newton's method goes up from four starts. Where none of them ends at a mode, as in a funnel, it is the normal of the best ELBO on the way.
    With more than 300 numbers, L-BFGS goes up, and the widths alone are those of the curvature.

    Args:
        model: A Pyro model.
        data: As for `fit`.
        seed: Seed for what follows, as for `fit`; the search has a seed of its own.
        device: As for `fit`.

    Returns:
        `Fit` of no steps, for `posterior`, `diagnose` and all else, or to go on from: `fit.resume(steps=1000)`.

    Raises:
        Unsuitable: No continuous latent, or a discrete one that can't be summed out; no start from which a finite place is reached.

    References:
        Tierney & Kadane 1986; MacKay 2003, Information theory, inference, and learning algorithms, chapter 27.

    Examples:
        >>> fit = vb.laplace(model, {"x": x, "y": y})
        >>> fit.posterior().mean()
    """
    return fit(Pair(model, Full(model, start=starts.laplace)), data, steps=0, seed=seed, device=device, progress=False)
