"""Whether an estimator can work on a pair."""

from __future__ import annotations

import torch
from pyro.infer import ELBO, RenyiELBO, ReweightedWakeSleep, Trace_ELBO, TraceGraph_ELBO, TraceTailAdaptive_ELBO

from ..data.dataset import Batch
from ..errors import Unsuitable
from ..pair.pair import Pair
from ..pair.sites import summed_out
from ..pair.subsample import seen_of
from ..validation import values_unchecked
from .analytic_kl import AnalyticKL
from .base import Estimator
from .enumerated import Enumerated

OF_SEVERAL: tuple[type[ELBO], ...] = (RenyiELBO, ReweightedWakeSleep, TraceTailAdaptive_ELBO)
"""Pyro's estimators that weight particles against each other, summed over all rows."""
OF_DRAWS: tuple[type[ELBO], ...] = (Trace_ELBO, TraceGraph_ELBO, RenyiELBO)
"""Pyro's estimators, with their subclasses, that don't enumerate."""


def suits(pair: Pair, batch: Batch, method: ELBO) -> bool:
    """Whether an estimator can be used with a pair."""
    try:
        check_suits(pair, batch, method)
    except Unsuitable:
        return False
    return True


def check_suits(pair: Pair, batch: Batch, method: ELBO) -> None:
    """Raises `Unsuitable` if `suits` is false: for one of Pyro's estimators, if it draws a site that should be enumerated, or weights particles of different rows."""
    if isinstance(method, Estimator):
        with pair.copy().look(), values_unchecked():
            method.draw(pair, batch)
        several = method.weighs
    else:
        several = isinstance(method, OF_SEVERAL) and method.num_particles > 1
        if isinstance(method, OF_DRAWS) and (names := summed_by(pair, batch)):
            raise Unsuitable(
                f"The guide of pair {pair.name!r} does not have {', '.join(map(repr, names))} (the model marks it for enumeration, or the guide was made automatically): {type(method).__name__} "
                "would draw it from the prior, whatever the data. Use vb.Enumerated() or pyro.infer.TraceEnum_ELBO(), which sum over all values, or put it in a guide."
            )
    part = seen_of(pair, batch) if several else None
    if part and (part.anew or not part.alike or not isinstance(method, Estimator)):
        raise Unsuitable(
            f"{part} under {type(method).__name__} of {method.num_particles} particles. What is inside the logarithm of a mean can't be scaled up to all rows, "
            "or come from different rows: on average that may lie above log p(x). Use an estimator of the ELBO, such as vb.Trace(), or leave batch_size out and let the "
            "plate show all rows."
        )


def summed_by(pair: Pair, batch: Batch) -> list[str]:
    """The sites that a pair's model marginalises."""
    with pair.copy().look(), torch.no_grad(), values_unchecked():
        return summed_out(*pair.run(batch))


def of_elbo(pair: Pair, batch: Batch, num_particles: int = 1) -> Estimator:
    """The default estimator of a pair's ELBO: `AnalyticKL`, or `Enumerated` if the model sums sites out."""
    return Enumerated(num_particles) if summed_by(pair, batch) else AnalyticKL(num_particles)
