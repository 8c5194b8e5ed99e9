"""What stands in for a fit where the guide is as good as it is to be, and when draws are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import vbayes as vb

DRAWS = 4000


@dataclass(frozen=True)
class Trained:
    """A pair whose guide is as good as it is to be, with its data: what a fit is to `predict`."""

    pair: vb.Pair
    data: vb.Dataset


def trained(model, guide, data) -> Trained:
    data = vb.Dataset.of(data)
    pair = vb.Pair(model, guide)
    return Trained(pair.initialise(data.batch(pair.model)), data)


def right(values, mean, sd):
    """Draws (S, …) of that mean and sd, within five standard errors."""
    values = np.asarray(values, dtype=float)
    count = len(values)
    assert (abs(values.mean(0) - mean) < 5 * sd / count**0.5).all(), (values.mean(0), mean)
    assert (abs(values.std(0) / sd - 1) < 5 / (2 * count) ** 0.5).all(), (values.std(0), sd)
