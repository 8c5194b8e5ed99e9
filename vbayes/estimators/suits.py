"""Whether an estimator can work on a pair."""

from __future__ import annotations

from pyro.infer import ELBO, RenyiELBO, ReweightedWakeSleep, TraceTailAdaptive_ELBO

from ..data.dataset import Batch
from ..errors import Unsuitable
from ..pair.pair import Pair
from ..pair.subsample import seen_of
from ..validation import values_unchecked
from .base import Estimator

OF_SEVERAL: tuple[type[ELBO], ...] = (RenyiELBO, ReweightedWakeSleep, TraceTailAdaptive_ELBO)
"""Pyro's own that weigh particles against each other, summed over all rows."""


def suits(pair: Pair, batch: Batch, method: ELBO) -> bool:
    """Whether an estimator can work on a pair; one of Pyro's can."""
    try:
        check_suits(pair, batch, method)
    except Unsuitable:
        return False
    return True


def check_suits(pair: Pair, batch: Batch, method: ELBO) -> None:
    """Raises `Unsuitable` where `suits` is false, and for one of Pyro's that weighs particles of different rows against each other."""
    if isinstance(method, Estimator):
        with pair.copy().look(), values_unchecked():
            method.draw(pair, batch)
    several = (
        method.weighs if isinstance(method, Estimator) else isinstance(method, OF_SEVERAL) and method.num_particles > 1
    )
    if (
        several
        and (part := seen_of(pair, batch))
        and (part.anew or not part.alike or not isinstance(method, Estimator))
    ):
        raise Unsuitable(
            f"{part} under {type(method).__name__} of {method.num_particles} particles. What is inside the logarithm of a mean can't be scaled up to all rows, or be of "
            "different ones: on average that may lie above log p(x). Use an estimator of the ELBO, such as vb.Trace(), or leave batch_size out and let the plate show all rows."
        )
