"""The name of an estimator's values in histories, progress bars and axes."""

from __future__ import annotations

import math

from pyro.infer import (
    ELBO,
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    JitTraceGraph_ELBO,
    JitTraceMeanField_ELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)

from .base import Estimator
from .registry import name_of

PYROS: tuple[type[ELBO], ...] = (Trace_ELBO, TraceMeanField_ELBO, TraceGraph_ELBO, TraceEnum_ELBO)
PYROS += (JitTrace_ELBO, JitTraceMeanField_ELBO, JitTraceGraph_ELBO, JitTraceEnum_ELBO)
"""Pyro's estimators of the ELBO's gradient; not `RenyiELBO`, `TraceTailAdaptive_ELBO` and others with the same base class."""


def followed(estimator: ELBO) -> str:
    """The name: "ELBO", "IWAE(64)" for the bound of 64 particles, "−CUBO(32)" for a bound that is minimised, whose values are negated in histories."""
    if not isinstance(estimator, Estimator):
        return "ELBO" if type(estimator) in PYROS else str(getattr(estimator, "bound", name_of(estimator)))
    if estimator.bound == "ELBO":
        return "ELBO"
    sign = "" if estimator.objective.ascend else "−"
    return sign + estimator.bound + (f"({estimator.num_particles})" if estimator.weighs else "")


def can_be_infinite(estimator: ELBO) -> bool:
    """Whether its bound is infinite for some guides, which its values from few draws never show."""
    return math.isfinite(getattr(getattr(estimator, "objective", None), "infinite_from", math.inf))
