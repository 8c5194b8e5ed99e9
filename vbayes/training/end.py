"""The final ELBO of a fit whose objective is not the ELBO."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .. import rng
from ..estimators.base import Estimator
from ..estimators.suits import of_elbo
from ..validation import no_warnings_of_nan, validation

LOOKS, DRAWS = 20, 50  # evaluations, each with this number of draws and, for minibatches, with other rows


def lowers(fit: Any) -> bool:
    """Whether an estimator's objective is minimised; estimates from few draws are then lowest when no draw reaches the posterior."""
    return isinstance(fit.estimator, Estimator) and not fit.estimator.objective.ascend


def elbo_at_the_end(fit: Any) -> tuple[float, float]:
    """The ELBO in nats and its standard error, from the same draws and rows for all fits of the same data."""
    found = looks_at_the_end(fit)
    return float(np.mean(found)), float(np.std(found, ddof=1)) / LOOKS**0.5


def looks_at_the_end(fit: Any) -> np.ndarray:
    """(LOOKS,) values of the ELBO in nats, each from other draws, which are the same for all fits of the same data: differences between fits have less noise than the values."""
    pair, data = fit.pair, fit.data
    found, usual = [], None
    with validation(False), no_warnings_of_nan():
        for number in range(LOOKS):
            index = None
            if fit.batch_size is not None:
                rows = torch.randperm(len(data), generator=rng.stream(number), device="cpu")
                index = rows[: fit.batch_size].to(data.first.device)
            batch = data.batch(pair.model, index)
            usual = usual or of_elbo(pair, batch, DRAWS)
            model, guide = pair.scaled(batch.total)
            with pair.look(number):
                found.append(-usual.loss(model, guide, *batch.args))
    return np.array(found)
