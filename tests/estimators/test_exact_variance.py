"""Gradient variance where it is known: z ~ N(0,1), x ~ N(z,1), x = (−0.5, 2), q = N(loc, scale²) at loc 0, scale 1."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

import vbayes as vb
from tests.models import X
from vbayes.laboratory import moments
from vbayes.laboratory.bench import BLOCKS
from vbayes.laboratory.bias import bias
from vbayes.laboratory.replicas import Replicas
from vbayes.staging import draw_noise

pytestmark = pytest.mark.usefixtures("double")

MEAN = tensor([-0.5, 2.0, -2.0], dtype=torch.float64)  # of the ELBO's gradient, by loc, loc, scale
DRAWS = 4000  # in a block

# By quadrature; Score is plate-local, and the scale is shared by both data.
VARIANCE = {
    vb.Pathwise(): (4.0, 4.0, 20.25),
    vb.AnalyticKL(): (1.0, 1.0, 8.25),
    vb.STL(): (1.0, 1.0, 8.25),
    vb.Score(): (8.4716, 29.0270, 138.3488),
    vb.RLOO(2): (2.0, 9.5, 41.5),
}


def measure(estimator, scale_of_gradient=1.0) -> moments.Moments:
    pair = vb.pairs.normal_normal(2)
    batch = vb.Batch((X,))
    pair.initialise(batch)
    # The scale is stored as its logarithm, whose derivative is the same at scale 1.
    replicas = Replicas(pair, estimator, batch)
    assert replicas.why_slow is None

    def blocks():
        for block in range(BLOCKS):
            with vb.seeded(block):
                noise = draw_noise(replicas.sizes, DRAWS, X)
            yield (g * scale_of_gradient for g in replicas.gradients(pair, noise, 0))

    return moments.collect(blocks(), MEAN, DRAWS)


@pytest.mark.parametrize("estimator", VARIANCE, ids=lambda e: type(e).__name__)
def test_mean_and_variance(estimator):
    drawn = measure(estimator)
    for i, expected in enumerate(VARIANCE[estimator]):
        one = drawn.select(tensor([i]))
        value, se = moments.variance(one)
        assert abs(value - expected) < 4 * se, f"coordinate {i}: {value} ± {se}, wanted {expected}"
        assert se < 0.03 * expected  # small enough to tell the estimators apart
        assert abs(bias(one, MEAN[[i]]).z) < 4


def test_a_wrong_gradient_would_be_noticed():
    """The mutant: a gradient that is 3 % too long."""
    drawn = measure(vb.AnalyticKL(), scale_of_gradient=1.03)
    assert abs(bias(drawn, MEAN).z) > 4
