"""Whether a history says that a training has converged: the rule, on its counter-examples."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vbayes.training.convergence import Convergence, Phase, of_history
from vbayes.training.plateau import Plateau


def noisy(trend, seed=0, sd=1.0):
    trend = np.asarray(trend, dtype=float)
    return trend + sd * np.random.default_rng(seed).standard_normal(len(trend))


STEPS = np.arange(20_000)
RISING = {
    "a slow creep": -50.0 + 2e-5 * STEPS * 10,
    "a long plateau, then a drop of the loss": np.where(STEPS < 17_000, -100.0, -100.0 + (STEPS - 17_000) / 100),
    "a logarithm": 10 * np.log1p(STEPS),
    "a slow exponential": -200 * np.exp(-STEPS / 10_000),
}


@pytest.mark.parametrize("trend", RISING.values(), ids=RISING)
def test_what_rises_has_not_converged(trend):
    found = of_history(noisy(trend), tolerance=0.01)
    assert found.converged is False and "still gains" in found.reason and found.expected_gain > 0.1


def test_pure_noise_does_not_rise():
    """Of 200 histories, each looked at four times at three standard errors, some one in a hundred may."""
    found = [Plateau.of(noisy(np.zeros(8_000), seed)) for seed in range(200)]
    assert sum(each.rises for each in found) <= 5
    assert sum(each.sustained for each in found) >= 190


def test_noise_that_neighbours_share_is_noise():
    """Wandering iterates: an autoregression whose standard error is many times what neighbours' differences say."""
    rng = np.random.default_rng(0)
    rises = 0
    for _ in range(50):
        steps = rng.standard_normal(8_000)
        values = np.empty(8_000)
        values[0] = 0.0
        for i in range(1, 8_000):
            values[i] = 0.95 * values[i - 1] + steps[i]
        rises += Plateau.of(values).rises
    assert rises <= 5


def test_what_has_settled_has_converged_as_far_as_its_noise_tells():
    settled = -100 * np.exp(-STEPS / 500)
    quiet, loud = of_history(noisy(settled, sd=0.01), 0.01), of_history(noisy(settled, sd=5.0), 0.01)
    assert quiet.converged is True and "less than" in quiet.reason
    assert loud.converged is None and "undecided" in loud.reason


@pytest.mark.parametrize("steps", [0, 1, 39])
def test_too_few_steps_say_nothing(steps):
    assert of_history([0.0] * steps, 0.01).converged is None


def test_it_goes_into_a_file_and_back():
    made = Convergence(
        True, "converged after 3 steps: at last", (Phase(0.1, 3, -2.0), Phase(0.025, 4, -1.5, 0.5, 0.1)), 0.2, 0.3
    )
    back = Convergence.of_json(json.loads(json.dumps(made.to_json())))
    assert repr(back) == repr(made)
    assert (
        list(made.to_dataframe().columns) == ["rate", "steps", "elbo", "gain", "gain_se"]
        and len(made.to_dataframe()) == 2
    )
    assert made.rows() == (("convergence", "converged after 3 steps"), ("", "at last"))
    assert Convergence.of_json(None) is None
