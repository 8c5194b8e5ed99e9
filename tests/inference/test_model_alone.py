"""A model alone: what needs another guide than the one that comes by itself takes one, or says what is wanted in the words of the model."""

from __future__ import annotations

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb

W = torch.tensor([[1.0, 0.5, -1.0], [0.0, 1.0, 1.0]])
X = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.0, 1.5], [0.3, 0.2, 0.1], [1.2, -0.7, -1.0]])
Y = torch.tensor([0.5, 1.5, 3.0])
quiet = {"progress": False}


def factors(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ W, 0.5).to_event(1), obs=x)


def shifted(y):
    """Some rows lie two higher than their common mean."""
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        high = pyro.sample("high", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(mu + 2 * high, 1.0), obs=y)


def switched(y):
    gap = pyro.param("gap", torch.tensor(2.0))
    with pyro.plate("data", len(y)):
        high = pyro.sample("high", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(gap * high, 1.0), obs=y)


def plain(y):
    mu = pyro.param("mu", torch.tensor(0.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def test_reconstruct_takes_it():
    found = vb.reconstruct(factors, X, seed=1)
    torch.testing.assert_close(found.mean, found.code @ W)
    assert found.code.shape == (4, 2) and float(found.squared_error.mean()) < float(X.square().sum(1).mean())
    of_rows = vb.reconstruct(plain_mean, Y)
    assert of_rows.squared_error.shape == (3,) and "error" in repr(of_rows)
    with pytest.raises(vb.errors.BadInput, match="latent sites mu, sd and the observed sites y. Wanted: one of each"):
        vb.reconstruct(wide, Y)


def plain_mean(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def wide(y):
    mu, sd = pyro.sample("mu", dist.Normal(0.0, 1.0)), pyro.sample("sd", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu, sd), obs=y)


@pytest.mark.parametrize(
    ("verb", "mend"),
    [
        (lambda: vb.impute(factors, X, X < 2, **quiet), "vb.fit\\(model, data, missing='mask'\\)"),
        (lambda: vb.latent_use(factors, X), "as in vb.pairs.vae\\(\\)"),
        (lambda: vb.LatentSpace(factors, X), "vb.reconstruct\\(model, data\\), for these rows alone"),
    ],
)
def test_what_goes_row_by_row_asks_for_a_guide_that_does(verb, mend):
    with pytest.raises(vb.errors.Unsuitable, match=f"The guide of 'factors', a full-rank normal.*{mend}") as error:
        verb()
    assert "latent'" not in str(error.value), "no site of the guide's own"


def test_gaps_are_drawn_by_the_fit_that_is_advised():
    """x = z + noise, both of the same two numbers: what is missing has mean x_known / 2 given the other."""
    x = torch.tensor([[1.0, torch.nan], [-2.0, -1.0], [torch.nan, 2.0], [0.5, 0.5]])

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z[:, None].expand(-1, 2), 1.0).to_event(1), obs=x)

    drawn = vb.fit(model, x, missing="mask", **quiet).predict(draws=4000, seed=0, method="guide")["x"].values
    for row, column, known in ((0, 1, 1.0), (2, 0, 2.0)):
        assert drawn[:, row, column].mean() == pytest.approx(known / 2, abs=5 * (1.5 / 4000) ** 0.5)
        assert drawn[:, row, column].std() == pytest.approx(1.5**0.5, rel=0.06)


def test_linear_response_takes_the_guide_that_it_needs():
    found, same = vb.linear_response(wide, Y, seed=0), vb.linear_response(vb.Pair(wide, "diagonal"), Y, seed=0)
    torch.testing.assert_close(found.covariance, same.covariance, rtol=0, atol=0)
    assert found.names == ("mu", "sd")


def test_discrete_latents_are_counted_out():
    one, two = (0.7 * dist.Normal(0.0, 1.0).log_prob(Y).exp(), 0.3 * dist.Normal(2.0, 1.0).log_prob(Y).exp())
    table = vb.tabulate(switched, Y)
    torch.testing.assert_close(table.log_evidence(), (one + two).log())
    high = table.values["high"][..., 0]
    torch.testing.assert_close(table.mean(high.to(one))[0], two / (one + two))
    torch.testing.assert_close(vb.tabulate(vb.Pair(switched), Y).log_evidence(), table.log_evidence())


def test_discrete_latents_beside_others_are_summed_out():
    rows = dist.MultivariateNormal(torch.zeros(3), torch.eye(3) + 1.0)
    each = [
        rows.log_prob(Y - 2 * torch.tensor(high)) + dist.Bernoulli(0.3).log_prob(torch.tensor(high)).sum()
        for high in itertools.product((0.0, 1.0), repeat=3)
    ]
    right = float(torch.stack(each).logsumexp(0))
    assert float(vb.tabulate(shifted, Y).log_evidence().sum()) == pytest.approx(right, abs=1e-4)


def test_a_model_that_leaves_nothing_to_a_guide_says_what_may_be_typed():
    nothing = vb.Pair(pyro.infer.config_enumerate(switched), lambda *args: None)
    with pytest.raises(vb.errors.Unsuitable, match="latents of the model are discrete \\('high'\\).*vb.tabulate"):
        vb.posterior(switched, Y)
    assert vb.fit(nothing, Y, vb.Enumerated(), steps=1, compile=False, **quiet).steps == 1
    with pytest.raises(vb.errors.Unsuitable, match="The model has no latents.*vb.fit\\(vb.Pair\\(model, lambda"):
        vb.fit(plain, Y, **quiet)
    fit = vb.fit(vb.Pair(plain, lambda *args: None), Y, steps=200, learning_rate=0.1, compile=False, **quiet)
    assert float(fit.parameters["mu"]) == pytest.approx(float(Y.mean()), abs=0.05)


def test_latents_of_rows_are_tabulated_row_by_row():
    each = dist.MultivariateNormal(torch.zeros(3), W.T @ W + 0.25 * torch.eye(3)).log_prob(X)
    torch.testing.assert_close(vb.tabulate(factors, X).log_evidence(), each, atol=1e-4, rtol=0)


def test_a_prediction_wants_a_fit():
    with pytest.raises(vb.errors.BadInput, match="fit is the function factors. Wanted: a vb.Fit. Fix: vb.fit\\(model"):
        vb.predict(factors, X)


def located(y):
    gap = pyro.param("gap", torch.tensor(0.0))
    with pyro.plate("data", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(gap + z, 1.0), obs=y)


def test_em_needs_no_guide():
    """One that comes by itself, or has buffers of its own, as a batch norm's, is left aside."""

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(1)

        def forward(self, y):
            pyro.module("encoder", self)
            with pyro.plate("data", len(y)):
                pyro.sample("z", dist.Normal(self.norm(y[:, None])[:, 0], 1.0))

    for given in (located, vb.Pair(located, Encoder())):
        found = vb.monte_carlo_em(given, Y, steps=2, learning_rate=0.2, seed=0, progress=False)
        assert float(found.pair.parameters["gap"]) > 0.3, "towards the mean, by .2 a step"


def test_draws_and_groups_of_a_model_alone():
    before = set(pyro.get_param_store().keys())
    with vb.seeded(0):
        assert vb.draw(wide, Y, 3, {"log_p", "log_q"}).log_p.shape == (3,)
    assert set(vb.parameter_groups(located, vb.Batch((Y,)))["model"]) == {"gap"}
    assert set(pyro.get_param_store().keys()) == before, "nothing is left behind"
    with pytest.raises(
        vb.errors.Unsuitable, match="The guide of pair 'wide' computes the model's latents from draws of its"
    ):
        vb.log_evidence(wide, Y, "sandwich", num_particles=2, temperatures=2, **quiet)
