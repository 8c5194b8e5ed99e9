"""R̂ of sets of draws: ArviZ's own where chains are not split, and what it must see."""

from __future__ import annotations

import numpy as np
import pytest

from vbayes.summaries.r_hat import AGREE, r_hat


def test_it_sees_places_and_widths():
    draws = np.random.default_rng(0).normal(size=(4, 2000, 3))
    assert (np.abs(r_hat(draws) - 1) < 0.01).all()
    draws[0, :, 1] += 1.0
    draws[0, :, 2] *= 2.0
    found = r_hat(draws)
    assert found[0] < AGREE < found[1] and found[2] > AGREE
    assert r_hat(np.ones((2, 10))) == 1.0 and np.isinf(r_hat(np.stack([np.zeros(10), np.ones(10)])))


def test_it_is_arvizs_of_chains_that_are_not_split():
    az = pytest.importorskip("arviz")
    if not hasattr(az, "convert_to_dataset"):
        pytest.skip("ArviZ 1.x has it elsewhere")
    draws = np.random.default_rng(1).normal(size=(3, 500)) + np.array([0.0, 0.2, 0.5])[:, None]
    ours = float(r_hat(draws))
    # z-scores of ranks, by the formula that ArviZ names "identity" of the same numbers.
    assert ours == pytest.approx(float(az.rhat(az.convert_to_dataset(draws[:, :, None])).x.values[0]), abs=0.02)
