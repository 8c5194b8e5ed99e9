"""The mean of iterates in place of the last one: the same steps, and nearer to the optimum."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb

X = torch.tensor([1.0, 2.0, 4.0])
quiet = {"progress": False, "device": "cpu", "learning_rate": 0.3, "seed": 0}


def pair():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    return vb.Pair(model, lambda x: pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5)))


@pytest.mark.slow
def test_the_mean_of_the_later_half():
    """At a rate of .3 the iterates wander by a tenth; their mean hardly."""
    last, mean = (vb.fit(pair(), X, "trace", steps=600, average=average, **quiet) for average in (None, True))
    assert mean.history.elbo.tolist() == pytest.approx(last.history.elbo.tolist(), rel=1e-4), "the same steps"
    off = [abs(float(fit.parameters["loc"]) - 7 / 4) for fit in (last, mean)]
    assert off[1] < 0.03 and mean.average is True and last.average is None and mean.optimizer is torch.optim.Adam
    assert abs(float(mean.resume(steps=300, progress=False).parameters["loc"]) - 7 / 4) < 0.04


@pytest.mark.slow
def test_without_steps_the_last_iterates_may_be_kept():
    mean, last = (
        vb.fit(pair(), X, "trace", average=average, progress=False, device="cpu", seed=0) for average in (None, False)
    )
    assert mean.steps == last.steps and mean.parameters["loc"] != last.parameters["loc"] and last.average is False


def test_it_is_of_the_iterates(tmp_path):
    """Four steps, of which the last two count."""
    by_hand = [vb.fit(pair(), X, "trace", steps=n, compile=False, **quiet).parameters["loc"] for n in (3, 4)]
    mean = vb.fit(pair(), X, "trace", steps=4, average=True, compile=False, **quiet)
    torch.testing.assert_close(mean.parameters["loc"], (by_hand[0] + by_hand[1]) / 2)
    assert mean.average is True and by_hand[0] != by_hand[1]
    again = vb.Fit.load(mean.save(tmp_path / "fit.safetensors"), pair(), X)
    assert again.average is True and again.parameters["loc"] == mean.parameters["loc"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": 2, "steps": 3}, "average=2 is an int. Wanted: True or False, or None"),
        ({"average": True, "steps": 4, "optimizer": torch.optim.SGD}, "optimizer=SGD with average=True"),
        ({"average": True, "steps": 1}, "average=True over 1 step. Wanted: at least two"),
        ({"average": True, "steps": 3, "restarts": 2}, "average=True with restarts"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        vb.fit(pair(), X, "trace", **options, **quiet)
