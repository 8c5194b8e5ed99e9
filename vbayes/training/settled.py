"""Fits whose guide is optimal before the first step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..estimators import Enumerated
from ..estimators.base import Estimator
from ..estimators.objective import ELBO
from .convergence import Convergence

REASON = "by natural gradients on fixed draws: another step would gain less than 0.001 nats"
AT_A_MODE = "by Newton's method, which reached a mode"


def search_of(fit: Any) -> Any | None:
    """The `Search` by which a fit of zero steps was found; None if its guide made no search."""
    return None if fit.rows or fit.pair.word is None else getattr(fit.pair.guide, "search", None)


def settled(fit: Any) -> Any | None:
    """A fit of zero steps whose guide reached the best ELBO during its search, with its `convergence`; None if more training is needed.

    It is needed if the model has its own parameters, if minibatches or a bound other than the ELBO were requested, or if the guide's shapes differ from those of
    the search, or its parameters have been changed since.
    """
    guide, method = fit.pair.guide, fit.estimator
    of_the_elbo = isinstance(method, Enumerated) or (
        isinstance(method, Estimator) and method.objective == ELBO and method.unbiased_in == {"model", "guide"}
    )
    alone = all(name.startswith(f"{getattr(guide, '_pyro_name', '')}.") for name in fit.pair.parameters)
    if (
        fit.pair.word is None
        or fit.rows
        or fit.batch_size not in (None, len(fit.data))
        or not (of_the_elbo and alone and guide.settled)
        or _moved(fit)
    ):
        return None
    return replace(fit, convergence=Convergence(True, AT_A_MODE if fit.pair.word == "point" else REASON))


def _moved(fit: Any) -> bool:
    """Whether a guide's parameters differ from the result of its search, as for another start."""
    found = getattr(fit.pair.guide, "found", None)  # the values of a point guide
    if found:
        values = fit.pair.constrained()
        return any(not torch.equal(values[f"{type(fit.pair.guide).__name__}.{name}"], v) for name, v in found.items())
    return any(name.endswith(".loc") and bool(value.any()) for name, value in fit.pair.parameters.items())
