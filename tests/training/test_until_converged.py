"""A fit that is not told how far to go: it finds its rates, reaches what is known, and does not say that it has where it has not."""

from __future__ import annotations

import functools
import math
import signal

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

import vbayes as vb
from tests.models import binary, small_vae

fit = functools.partial(vb.fit, progress=False)


def mean_of(prior_mean: float, prior_sd: float, *, start: float = 0.0) -> vb.Pair:
    """The mean of some data under a prior: conjugate."""

    def model(x):
        m = pyro.sample("m", dist.Normal(torch.tensor(prior_mean), prior_sd))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", lambda: torch.tensor(start))
        scale = pyro.param("scale", lambda: torch.tensor(0.1), constraint=dist.constraints.positive)
        pyro.sample("m", dist.Normal(loc, scale))

    return vb.Pair(model, guide, name="mean_of")


def off(found: vb.Fit, mean: float, sd: float) -> float:
    """KL(q‖p), nats."""
    q = torch.distributions.Normal(found.parameters["loc"], found.parameters["scale"])
    return float(torch.distributions.kl_divergence(q, torch.distributions.Normal(mean, sd)))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_a_conjugate_posterior(seed):
    """As far as it says: within .01 nats of the evidence."""
    x = torch.tensor([0.5, 1.5, 2.5])
    found = fit(mean_of(0.0, 10.0), x, seed=seed)
    told = found.convergence
    assert told.converged is True and "a further phase would gain less than 0.01 nats" in told.reason
    assert off(found, 4.5 / 3.01, 3.01**-0.5) < told.tolerance == 0.01
    assert [phase.rate for phase in told.phases] == sorted({phase.rate for phase in told.phases}, reverse=True)
    assert sum(phase.steps for phase in told.phases) == found.steps and told.expected_gain < 0.01
    assert repr(found).count("converged after") == 1 and found.learning_rate == told.phases[-1].rate


@pytest.mark.slow
def test_a_full_covariance():
    """From ten standard deviations away; of neighbouring gradients some are a thousand times others."""
    with vb.seeded(3):
        root = torch.randn(4, 4) / 2 + torch.eye(4)
        x = torch.randn(4, 4) @ root.T * 2 + torch.tensor([1.0, -3.0, 10.0, 0.0])
    covariance = 4 * root @ root.T

    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(4), 100.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MultivariateNormal(z, covariance), obs=x)

    with vb.seeded(0):
        found = fit(vb.Pair(model, AutoMultivariateNormal(model)), x)
    precision = torch.eye(4) / 1e4 + 4 * torch.linalg.inv(covariance)
    mean = torch.linalg.solve(precision, torch.linalg.inv(covariance) @ x.sum(0))
    names = "AutoMultivariateNormal.loc", "AutoMultivariateNormal.scale", "AutoMultivariateNormal.scale_tril"
    loc, scale, root = (found.parameters[name] for name in names)
    q = torch.distributions.MultivariateNormal(loc, scale_tril=scale[:, None] * root)
    p = torch.distributions.MultivariateNormal(mean, precision_matrix=precision)
    assert found.convergence.converged is True
    assert float(torch.distributions.kl_divergence(q, p)) < 0.01


def test_a_slow_creep_has_not_converged():
    """A posterior 30 000 away: no rate gets there within the budget, and the ELBO of a step says nothing by itself."""
    found = fit(mean_of(0.0, 1e6), torch.full((3,), 3e4), max_steps=3000)
    assert found.steps == 3000 and found.convergence.converged is False
    assert (
        "max_steps used up, still gaining about" in found.convergence.reason
        and "in 1,000 steps" in found.convergence.reason
    )


@pytest.mark.slow
def test_badly_scaled_columns_are_reached_or_it_is_said():
    """Two columns that are nearly one, a thousand times apart: a mean field creeps along their ridge."""
    with vb.seeded(0):
        first = torch.randn(50)
        columns = torch.stack([first, 1000 * (first + 0.1 * torch.randn(50))], 1)
        y = columns @ torch.tensor([1.0, 0.002]) + 0.5 * torch.randn(50)

    def model(columns, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 10.0).to_event(1))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(columns @ w, 0.5), obs=y)

    found = fit(vb.Pair(model, AutoNormal(model)), (columns, y), max_steps=20_000)
    precision = torch.eye(2, dtype=torch.float64) / 100 + columns.double().T @ columns.double() / 0.25
    mean = torch.linalg.solve(precision, columns.double().T @ y.double() / 0.25)
    away = found.parameters["AutoNormal.locs.w"].double() - mean
    gap = 0.5 * float(away @ precision @ away)  # of the ELBO, by the location alone
    assert found.convergence.converged is False or gap < 0.02


def test_a_plateau_before_the_slope():
    """The likelihood hears nothing of m where that starts, five thousand Adam steps of .01 away; what drifts is no optimum."""

    def model(x):
        m = pyro.sample("m", dist.Normal(torch.tensor(0.0), 100.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.StudentT(1.0, m, 0.1), obs=x)

    def guide(x):
        loc, scale = (
            pyro.param("loc", torch.tensor(-50.0)),
            pyro.param("scale", torch.tensor(0.1), constraint=dist.constraints.positive),
        )
        pyro.sample("m", dist.Normal(loc, scale))

    found = fit(vb.Pair(model, guide), torch.full((5,), 3.0), learning_rate=0.01)
    assert found.convergence.converged is False or abs(float(found.parameters["loc"]) - 3) < 0.1


def test_an_elbo_full_of_noise():
    """A thousand nats of it in each step: the same draws at both places take it out of a difference."""

    def model(x):
        noise = pyro.sample("noise", dist.Normal(torch.tensor(0.0), 1.0))
        pyro.factor("much", 1000 * noise)
        m = pyro.sample("m", dist.Normal(torch.tensor(0.0), 10.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    def guide(x):
        pyro.sample("noise", dist.Normal(torch.tensor(0.0), 1.0))
        loc = pyro.param("loc", lambda: torch.tensor(0.0))
        scale = pyro.param("scale", lambda: torch.tensor(0.1), constraint=dist.constraints.positive)
        pyro.sample("m", dist.Normal(loc, scale))

    found = fit(vb.Pair(model, guide), torch.tensor([0.5, 1.5, 2.5]))
    assert found.history.elbo.std() > 500
    assert found.convergence.converged is True and off(found, 4.5 / 3.01, 3.01**-0.5) < 0.02


def test_one_that_is_told_how_far_says_whether_that_was_enough():
    found = fit(mean_of(0.0, 10.0, start=100.0), torch.tensor([0.5, 1.5]), steps=60, learning_rate=0.1)
    assert found.convergence.converged is False and not found.convergence.phases
    assert "60 steps were too few" in repr(found)
    assert fit(mean_of(0.0, 10.0), torch.tensor([0.5, 1.5]), steps=3).convergence is None


def test_it_is_a_function_of_the_seed():
    x = torch.tensor([0.5, 1.5, 2.5])
    a, b, c = (fit(mean_of(0.0, 10.0), x, seed=seed, max_steps=800) for seed in (4, 4, 5))
    assert a.history.elbo.tolist() == b.history.elbo.tolist() and repr(a.parameters) == repr(b.parameters)
    assert a.history.elbo.tolist() != c.history.elbo.tolist()


def test_it_goes_on_where_its_budget_ended(tmp_path):
    x = torch.tensor([0.5, 1.5, 2.5])
    short = fit(mean_of(0.0, 10.0), x, max_steps=600)
    assert short.convergence.converged is False and short.steps == 600
    loaded = vb.Fit.load(short.save(tmp_path / "fit.safetensors"), mean_of(0.0, 10.0), x)
    assert repr(loaded.convergence) == repr(short.convergence)
    whole = loaded.resume(progress=False)
    assert whole.convergence.converged is True and whole.steps > 1000 and short.steps == 600
    assert whole.history.elbo.tolist()[:600] == short.history.elbo.tolist()
    assert whole.convergence.phases[0].rate == short.convergence.phases[-1].rate
    told = whole.resume(steps=50, progress=False)  # by Adam, from the means, at the last rate
    assert told.steps == whole.steps + 50 and off(told, 4.5 / 3.01, 3.01**-0.5) < 0.05


def test_pyro_takes_the_steps_where_one_wants_to_look_on():
    found = fit(mean_of(0.0, 10.0), torch.tensor([0.5, 1.5, 2.5]), compile=False, max_steps=300, learning_rate=0.05)
    assert found.steps == 300 and not found.progress.staged and abs(float(found.parameters["loc"]) - 1.5) < 0.3


@pytest.mark.slow
def test_where_it_ends_is_not_where_the_last_step_led():
    """It is the mean of iterates; and at the same draws no worse."""
    x = torch.tensor([0.5, 1.5, 2.5])
    rates = [
        off(fit(mean_of(0.0, 10.0), x, max_steps=2000, learning_rate=0.3, seed=seed), 4.5 / 3.01, 3.01**-0.5)
        for seed in (0, 1)
    ]
    told = [
        off(fit(mean_of(0.0, 10.0), x, steps=2000, learning_rate=0.3, seed=seed), 4.5 / 3.01, 3.01**-0.5)
        for seed in (0, 1)
    ]
    assert max(rates) < max(told) / 3


@pytest.mark.slow
def test_networks_settle():
    """They creep on; that is said, and nobody waits for it."""
    found = fit(small_vae(), binary(200), batch_size=50)
    told = found.convergence
    assert found.steps < 60_000 and "nats per datum" in told.reason
    assert found.history.elbo_per_datum.tail(500).mean() > -6 * math.log(2) - 0.1


@pytest.mark.slow
def test_held_out_data_say_when_a_network_begins_to_learn_by_heart():
    """Of five hundred digits it learns each; those held out then cost nats, and the parameters that they liked best are kept."""
    digits = vb.data.digits()
    train, rest = digits.rows(slice(0, 500)), digits.rows(slice(500, 1000))
    held = fit(vb.pairs.vae(), train, validation=rest, batch_size=100)
    free = fit(vb.pairs.vae(), train, batch_size=100, max_steps=15_000)
    evidence = [
        vb.log_evidence(f, rest, method="iw", num_particles=20, progress=False).value / 500 for f in (held, free)
    ]
    assert "on the held-out data" in held.convergence.reason and held.steps < free.steps
    assert evidence[0] > evidence[1] + 0.5


def test_held_out_data_are_for_guides_that_can_read_them():
    with pytest.raises(vb.errors.BadInput, match="can't compute the latents of unseen data"):
        fit(mean_of(0.0, 10.0), torch.tensor([0.5, 1.5]), validation=torch.tensor([0.5]))


def test_a_callback_hears_of_each_step():
    seen = []
    found = fit(
        mean_of(0.0, 10.0),
        torch.tensor([0.5, 1.5]),
        max_steps=500,
        callbacks=[lambda state: seen.extend(state.new_rows)],
    )
    assert [row[0] for row in seen] == list(range(1, 501)) and tuple(seen) == found.rows


def test_a_phase_that_is_cut_short_proves_nothing():
    """A few steps at a lower rate gain nothing, whatever is left to gain."""
    begin = functools.partial(fit, mean_of(0.0, 10.0), torch.tensor([0.5, 1.5, 2.5]))
    first = begin().convergence.phases[0].steps
    for more in (10, 300):
        found = begin(max_steps=first + more)
        assert found.convergence.converged is False and "max_steps used up" in found.convergence.reason


def test_ctrl_c_returns_what_there_is():
    def press(state):
        if state.step >= 500:
            signal.raise_signal(signal.SIGINT)

    found = fit(mean_of(0.0, 10.0), torch.tensor([0.5, 1.5, 2.5]), callbacks=[press])
    assert found.interrupted and found.convergence.converged is None and "stopped by Ctrl-C" in found.convergence.reason
    assert found.steps >= 500 and found.resume(progress=False).convergence.converged is True


def test_nothing_finite_at_the_start_names_the_site():
    with pytest.raises(vb.errors.NonFinite, match="'x'") as caught:
        fit(mean_of(0.0, 10.0, start=math.inf), torch.tensor([0.5, 1.5]))
    assert caught.value.step == 1 and caught.value.fit.steps == 0


WRONG = {
    "no steps": ({"max_steps": 0}, "max_steps=0"),
    "half a step": ({"max_steps": 2.5}, "max_steps=2.5"),
    "no seconds": ({"max_seconds": 0}, "max_seconds=0"),
    "negative seconds": ({"max_seconds": -1.0}, "max_seconds=-1.0"),
    "seconds that are none": ({"max_seconds": math.nan}, "max_seconds=nan"),
    "steps and a budget": ({"steps": 3, "max_steps": 5}, "one or the other"),
    "epochs and a budget": ({"epochs": 3, "max_seconds": 5}, "one or the other"),
    "restarts of some steps and a budget": ({"restarts": 3, "steps": 4, "max_steps": 5}, "one or the other"),
    "steps and held-out data": ({"steps": 3, "validation": torch.zeros(2)}, "one or the other"),
    "another optimiser": ({"optimizer": torch.optim.SGD}, "steps= or epochs="),
}


@pytest.mark.parametrize(("options", "words"), WRONG.values(), ids=WRONG)
def test_budgets_and_optimisers_that_make_no_sense(options, words):
    with pytest.raises(vb.errors.BadInput, match=words):
        fit(mean_of(0.0, 10.0), torch.tensor([0.5, 1.5]), **options)


def test_a_second_on_the_clock_ends_it_too():
    found = fit(mean_of(0.0, 10.0), torch.tensor([0.5, 1.5]), max_seconds=1e-6)
    assert found.convergence.converged is False and "max_seconds used up" in found.convergence.reason


@pytest.mark.slow
def test_a_linear_autoencoder_is_principal_components():
    """With no settings at all: the squared error of PCA, and its subspace to a degree."""
    np = pytest.importorskip("numpy")
    from scipy.linalg import subspace_angles
    from sklearn.decomposition import PCA

    data = vb.data.digits()
    found, x = fit(vb.pairs.linear_autoencoder(64, 5, seed=0), data), data.first.double().numpy()
    pca = PCA(5, svd_solver="full").fit(x)
    weight, offset = (found.parameters[name].double().numpy() for name in ("weight", "offset"))
    loss = ((x - offset - (x - offset) @ weight @ weight.T) ** 2).sum(1).mean()
    assert loss < 1.001 * ((x - pca.inverse_transform(pca.transform(x))) ** 2).sum(1).mean()
    assert np.degrees(subspace_angles(weight, pca.components_.T)).max() < 1


@pytest.mark.slow
def test_a_vae_on_digits_gets_as_far_as_many_epochs_and_stops():
    """400 epochs of Adam at its default rate end at −17.1 nats per datum."""
    found = fit(vb.pairs.vae(), vb.data.digits(), batch_size=100)
    assert found.history.elbo_per_datum.tail(500).mean() > -17.3 and found.steps < 60_000
