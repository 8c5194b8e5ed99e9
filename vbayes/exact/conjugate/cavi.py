"""Mean-field inference by coordinate ascent (CAVI)."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import pandas as pd
from torch import Tensor

from ... import rng
from ...arguments.said import type_of
from ...arguments.takes import takes
from ...errors import BadInput, NonFinite
from ...progress import bar

ROUNDING = 1e-9  # relative decrease of the ELBO in a sweep that rounding may cause

Q = TypeVar("Q")


class Conjugate(Protocol[Q]):
    """A model in which the optimum of each factor, given the others, has a closed form."""

    def start(self, seed: int) -> Q:
        """Initial factors."""
        ...

    def sweep(self, q: Q) -> Q:
        """Sets each factor in turn to its optimum, given the others."""
        ...

    def elbo(self, q: Q) -> Tensor:
        """() nats."""
        ...


@dataclass(frozen=True)
class CAVI(Generic[Q]):
    """Result of `vb.cavi`.

    Attributes:
        q: The factors, in the form of the model.
        elbo: The ELBO in nats.
        converged: Whether the last sweep gained less than the tolerance.
        history: The ELBO at the start and after each sweep.
        restarts: The final ELBO of each start.
    """

    q: Q
    elbo: float
    converged: bool
    history: tuple[float, ...] = field(repr=False)
    restarts: tuple[float, ...] = field(repr=False)

    def to_dataframe(self) -> pd.DataFrame:
        """`sweep` and `elbo`."""
        return pd.DataFrame({"sweep": range(len(self.history)), "elbo": self.history})


@takes()
def cavi(
    model: Conjugate[Q],
    *,
    sweeps: int = 1000,
    tolerance: float = 1e-10,
    restarts: int = 1,
    seed: int | None = None,
    progress: bool = True,
) -> CAVI[Q]:
    """Runs coordinate-ascent variational inference: sets each factor in turn to its optimum, so that the ELBO never decreases.

    Args:
        model: From `vb.conjugate`, or your own with `start`, `sweep` and `elbo`.
        sweeps: Maximum number of sweeps.
        tolerance: Stops after a sweep with a relative gain in the ELBO below this.
        restarts: Number of starts; the best result is returned, as most of these ELBOs have several maxima.
        seed: Seed for the first start; those of the others depend on it.
        progress: Whether to show a progress bar.

    Raises:
        BadInput: The number of sweeps or starts is not positive.
        NonFinite: The ELBO is not finite, or a sweep lowered it, so the updates do not match the ELBO.

    Examples:
        >>> mixture = vb.conjugate.GaussianMixture(x, components=6, concentration=0.01)
        >>> found = vb.cavi(mixture, restarts=10)
        >>> found.elbo, found.q.location

    References:
        Bishop 2006, Pattern recognition and machine learning, section 10.1; Blei, Kucukelbir & McAuliffe 2017, arXiv:1601.00670, algorithm 1.
    """
    if missing := [name for name in ("start", "sweep", "elbo") if not callable(getattr(model, name, None))]:
        raise BadInput.of(
            "model",
            got=f"{type_of(model)}, without {', '.join(missing)}",
            wanted="a model of vb.conjugate, or one with start, sweep and elbo",
            mend="vb.conjugate.NormalGamma(x), for example",
        )
    found: list[tuple[Any, tuple[float, ...], bool]] = []
    with bar("CAVI", restarts, show=progress, unit="restart") as advance:
        for number, start in enumerate(rng.children(rng.or_default(seed), restarts), start=1):
            found.append(_ascend(model, start, sweeps, tolerance))
            advance(number, functools.partial("ELBO {:.6g}".format, found[-1][1][-1]))
    q, history, converged = max(found, key=lambda one: one[1][-1])
    return CAVI(q, history[-1], converged, history, tuple(one[1][-1] for one in found))


def _ascend(model: Conjugate[Q], seed: int, sweeps: int, tolerance: float) -> tuple[Q, tuple[float, ...], bool]:
    q = model.start(seed)
    history = [float(model.elbo(q))]
    for number in range(1, sweeps + 1):
        q = model.sweep(q)
        history.append(float(model.elbo(q)))
        gained, size = history[-1] - history[-2], max(1.0, abs(history[-1]))
        if not math.isfinite(history[-1]) or gained < -ROUNDING * size:
            raise NonFinite(
                f"The ELBO went from {history[-2]:.9g} to {history[-1]:.9g} nats in sweep {number}, but a sweep can't decrease it. "
                "Common fixes: double precision; data with the same scale in each feature; an ELBO that matches the updates.",
                step=number, sites=(), fit=None,
            )  # fmt: skip
        if gained < tolerance * size:
            return q, tuple(history), True
    return q, tuple(history), False
