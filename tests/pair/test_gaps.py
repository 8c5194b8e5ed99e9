"""Data with gaps: a mask keeps them out, and where none does, or not out of the gradient, they are refused."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import vbayes as vb

NAN = float("nan")
X = torch.tensor([0.5, NAN, -1.0, 2.0, NAN, 1.5])
SEEN = ~X.isnan()


def by_handler(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    with pyro.plate("data", len(x)), pyro.poutine.mask(mask=~x.isnan()):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x.nan_to_num())


def by_distribution(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0).mask(~x.isnan()), obs=x.nan_to_num())


def unfilled(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0).mask(~x.isnan()), obs=x)


def unmasked(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def pair(model):
    return vb.Pair(model, AutoNormal(model), name=model.__name__)


@pytest.mark.parametrize("compile", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("model", [by_handler, by_distribution], ids=lambda model: model.__name__)
def test_what_is_masked_out_is_as_if_it_were_not_there(model, compile):
    options = {"steps": 60, "learning_rate": 0.05, "compile": compile, "progress": False}
    gaps, whole = vb.fit(pair(model), X, **options), vb.fit(pair(unmasked), X[SEEN], **options)
    np.testing.assert_allclose(gaps.history.elbo, whole.history.elbo, rtol=1e-5)
    for name, value in whole.parameters.items():
        torch.testing.assert_close(gaps.parameters[name], value, rtol=1e-4, atol=1e-5)
    ours, theirs = (vb.log_evidence(fit, method="iw", num_particles=50, progress=False).value for fit in (gaps, whole))
    assert ours == pytest.approx(theirs, rel=1e-5)
    draws = vb.to_arviz(gaps, draws=5, prior=False)
    mu, ours = torch.tensor(draws.posterior["mu"].to_numpy()), draws.log_likelihood["x"].to_numpy()
    np.testing.assert_allclose(ours, dist.Normal(mu[..., None], 1.0).log_prob(X[SEEN]), rtol=1e-5)
    assert vb.check(pair(model), X, show=False).sites[-1].in_guide == "observed"


@pytest.mark.parametrize("look", ["fit", "check", "minibatches"])
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (unmasked, "which reach the log-density of site 'x' of pair 'unmasked'. Drop those rows .* obs=x.nan_to_num()"),
        (unfilled, "still reach the gradient of .*, where NaN times 0 is NaN. .* obs=x.nan_to_num()"),
    ],
    ids=["unmasked", "unfilled"],
)
def test_what_reaches_the_density_or_its_gradient_is_refused(model, message, look):
    x = torch.cat([torch.zeros(4), X])
    with pytest.raises(vb.errors.BadData, match=message) as error:
        if look == "check":
            vb.check(pair(model), x, show=False)
        else:
            vb.fit(pair(model), x, steps=1, batch_size=2 if look == "minibatches" else None, progress=False)
    assert look == "check" or "2 of 10 rows (first: row 5)" in str(error.value)


def test_a_column_that_the_model_does_not_read_may_have_gaps():
    data = {"x": torch.zeros(6), "label": X}
    assert vb.fit(pair(unmasked), data, steps=2, progress=False).steps == 2


def test_masked_places_may_lie_outside_the_support():
    """A rate of 0 where nothing was seen is no wrong data."""

    def model(x):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("data", len(x)), pyro.poutine.mask(mask=x > 0):
            pyro.sample("x", dist.Exponential(rate), obs=x)

    x = torch.tensor([1.0, -1.0, 2.0])
    vb.check(pair(model), x, show=False)
    with pytest.raises(vb.errors.BadPair, match="outside the support"):
        vb.check(pair(lambda x: pyro.sample("x", dist.Exponential(1.0).expand([3]).to_event(1), obs=x)), x, show=False)


def test_where_there_is_no_pair_gaps_are_what_they_are():
    rows, words = vb.Dataset.of((torch.zeros(6), X)).gaps()
    assert rows.tolist() == [1, 4] and words.startswith("Column 'x1' of 'data' has NaN")
    assert not len(vb.Dataset.of(torch.zeros(6)).gaps()[0])
    with pytest.raises(vb.errors.BadData, match="runs from nan to nan"):
        vb.Dataset.of(X).binarized("static")
    fit = vb.fit(pair(unmasked), torch.zeros(6), steps=1, progress=False)
    with pytest.raises(vb.errors.BadData, match="reach the log-density"):
        vb.to_arviz(fit, X, draws=2)
