"""Evidence on the right side of the truth, on every pair whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal

import vbayes as vb
from tests.models import binary, small_vae
from vbayes.drawing.simulation import simulate
from vbayes.inference.annealing import annealed
from vbayes.inference.importance import Weights
from vbayes.pairs import TRACTABLE

CONTINUOUS = ("normal_normal", "gaussian_chain", "linear_gaussian", "beta_bernoulli", "gamma_poisson")
SIMULATED = tuple(name for name in CONTINUOUS if name != "beta_bernoulli")


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def evidence(name: str, method: str, **options) -> vb.Evidence:
    known = TRACTABLE[name]
    return vb.log_evidence(known.pair(), *known.batch().args, method=method, progress=False, **options)


@pytest.mark.parametrize("name", TRACTABLE)
def test_every_bound_is_on_its_side_and_rises_to_the_truth(name):
    truth, elbo = evidence(name, "exact"), evidence(name, "elbo", num_particles=400)
    assert truth.direction == "exact" and truth.se == 0.0 and truth.low == truth.value == truth.high
    assert elbo.value < truth.value + 4 * elbo.se and elbo.direction == "lower" and elbo.high == math.inf
    one, many = (evidence(name, "iw", num_particles=k, seed=3) for k in (1, 1000))
    assert abs(many.value - truth.value) < 4 * many.se + 0.01 and many.se < 0.3
    assert one.value < many.value + 4 * math.hypot(one.se, elbo.se * 20), "K = 1 is one draw of the ELBO"
    assert many.effective is not None and len(many.per_datum) == 2 == len(many.to_dataframe())
    assert many.per_datum.sum() == pytest.approx(many.value)


@pytest.mark.parametrize("name", TRACTABLE)
def test_the_elbo_is_the_tabulated_one(name):
    known = TRACTABLE[name]
    pair = known.pair()
    elbo = evidence(name, "elbo", num_particles=2000)
    assert abs(elbo.value - float(vb.tabulate(pair, known.batch()).elbo().sum())) < 4 * elbo.se


@pytest.mark.slow
def test_the_bound_of_k_particles_has_the_mean_on_paper():
    """E log mean w over K = 3, by the table, for each datum; a mutant without log K is far off."""
    known = TRACTABLE["normal_normal"]
    pair, batch = known.pair(), known.batch()
    right = vb.tabulate(pair, batch).expected(vb.IWAE(3).bound_of, 3)
    values = np.stack([evidence("normal_normal", "iw", num_particles=3, seed=n).per_datum for n in range(400)])
    se = values.std(0, ddof=1) / 20
    assert (np.abs(values.mean(0) - right.numpy()) < 4 * se).all() and (se < 0.1).all()
    assert (np.abs(values.mean(0) + math.log(3) - right.numpy()) > 4 * se).all()


def test_weights_as_they_come_are_those_of_all_at_once():
    log_w = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 3 - 700
    found = Weights.of(iter(log_w))
    torch.testing.assert_close(found.elbo()[0], log_w.mean(0))
    torch.testing.assert_close(found.elbo()[1], log_w.std(0) / 500**0.5)
    torch.testing.assert_close(found.bound()[0], log_w.logsumexp(0) - math.log(500))
    w = (log_w - log_w.amax(0)).exp()
    torch.testing.assert_close(found.effective(), w.sum(0) ** 2 / w.square().sum(0))
    delta = w.std(0, correction=0) / w.mean(0) / 500**0.5
    torch.testing.assert_close(found.bound()[1], delta)


def test_chunks_of_weights_add_up_to_all():
    log_w = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 3 - 700
    one, two = Weights.of_chunk(log_w), Weights.of_chunk(log_w[:180]).joined(Weights.of_chunk(log_w[180:]))
    for name in ("mean", "squares", "log_sum", "log_sum_of_squares"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name))
    assert one.count == two.count == 500


@pytest.mark.parametrize("sd", [1.0, 30.0, 3000.0])
def test_the_error_of_a_bound_is_not_capped(sd):
    """Over 400 sets of 100 draws it is as far from its mean as it says, also where one draw carries all: the delta method says 1 at most."""
    log_w = sd * torch.randn(100, 400, generator=torch.Generator().manual_seed(0))
    value, se = Weights.of_chunk(log_w).evidence()
    assert float(se.mean()) == pytest.approx(float(value.std()), rel=0.35)


def test_a_fit_that_is_far_off_is_told_to_train():
    """One weight of all data, thousands of nats away: no number of particles helps."""

    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 0.1), obs=x)

    def guide(x):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(-3.0)), 0.5))

    found = vb.log_evidence(vb.Pair(model, guide), torch.ones(50), method="iw", progress=False)
    assert found.se > 50 and "1.0 draws carry the weight of the data" in found.verdict()
    assert "train it, vb.fit(pair, data)" in found.verdict() and "more particles would raise" not in found.verdict()


@pytest.mark.parametrize(
    "name", [CONTINUOUS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in CONTINUOUS[1:])]
)
def test_annealing_ends_at_the_truth(name):
    truth = evidence(name, "exact")
    found = evidence(name, "ais", num_particles=64, temperatures=60)
    assert abs(found.value - truth.value) < 4 * found.se < 0.8 and found.direction == "lower"
    quick = evidence(name, "elbo", num_particles=64)
    assert found.se < 4 * quick.se and found.value > quick.value


@pytest.mark.on_cpu
@pytest.mark.slow
@pytest.mark.parametrize("name", SIMULATED)
def test_the_sandwich_holds_the_truth_of_the_data_it_made(name):
    known = TRACTABLE[name]
    pair = known.pair()
    made = simulate(pair, known.batch(), 0)
    found = evidence(name, "sandwich", num_particles=64, temperatures=60)
    truth = vb.log_evidence(pair, *made.batch.args, method="exact").value
    assert found.low - 4 * found.se < truth < found.high + 4 * found.se and found.se < 0.5
    assert found.direction == "between" and "an upper one of" in found.verdict()


def test_a_sandwich_says_first_that_its_data_are_simulated():
    """No number is taken for the evidence of the data that were given."""
    pair = TRACTABLE["normal_normal"].pair()
    found = vb.log_evidence(
        pair, torch.tensor([40.0, 50.0]), "sandwich", num_particles=2, temperatures=3, progress=False
    )
    assert found.simulated and found.value > -100, "the data given have some -1000 nats"
    assert found.verdict().startswith(
        "For data simulated from the model in the shape of 'data', not for 'data' itself: "
    )
    lines = repr(found).splitlines()
    assert (
        lines[0].endswith("on data simulated like data") and "simulated from the model; not 'data' itself" in lines[1]
    )
    assert found.to_dataframe().simulated.all()
    other = vb.log_evidence(pair, torch.tensor([40.0, 50.0]), "ais", num_particles=2, temperatures=3, progress=False)
    assert (
        not other.simulated
        and "simulated" not in other.verdict() + repr(other)
        and "simulated" not in other.to_dataframe()
    )
    with pytest.raises(
        vb.errors.Unsuitable,
        match="'sandwich' needs data simulated from the model, whose latents are an exact draw.*use method='ais'",
    ):
        evidence("discrete_chain", "sandwich")


@pytest.mark.slow
def test_few_temperatures_bound_from_both_sides():
    """One temperature is importance sampling there, and too much back: far from the truth, on the right sides."""
    pair = TRACTABLE["gamma_poisson"].pair()
    low, high, truths = [], [], []
    for seed in range(30):
        made = simulate(pair, TRACTABLE["gamma_poisson"].batch(), seed)
        low.append(float(annealed(pair, made.batch, 1, 1, 1000 + seed, origin=None, progress=False).bound()[0].sum()))
        high.append(
            -float(annealed(pair, made.batch, 1, 1, 2000 + seed, origin=made.made, progress=False).bound()[0].sum())
        )
        truths.append(vb.log_evidence(pair, *made.batch.args, method="exact").value)
    below, above = np.subtract(truths, low), np.subtract(high, truths)
    assert below.mean() > 3 * below.std() / 30**0.5 and above.mean() > 3 * above.std() / 30**0.5


@pytest.mark.slow
def test_a_global_latent_and_an_autoguide():
    """Eight schools under AutoNormal: constrained latents through the guide's own maps; AIS and many particles agree."""
    fit = vb.fit(
        vb.pairs.eight_schools(), vb.data.eight_schools(), steps=300, learning_rate=0.05, compile=False, progress=False
    )
    many = vb.log_evidence(fit, method="iw", num_particles=1000, progress=False)
    annealed_ = vb.log_evidence(fit, method="ais", num_particles=64, temperatures=100, progress=False)
    assert many.per_datum is None and annealed_.per_datum is None
    assert abs(many.value - annealed_.value) < 4 * math.hypot(many.se, annealed_.se) < 1.5
    assert "draws carry the weight" not in annealed_.verdict()


@pytest.mark.slow
def test_rows_in_chunks_and_a_fit():
    torch.set_default_dtype(torch.float32)
    fit = vb.fit(small_vae(), binary(30), steps=20, progress=False)
    whole = vb.log_evidence(fit, method="iw", num_particles=100, progress=False)
    parts = vb.log_evidence(fit, method="iw", num_particles=100, batch_size=7, progress=False)
    assert whole.rows == parts.rows == 30 == len(parts.per_datum)
    assert (np.abs(whole.per_datum - parts.per_datum) < 5 * np.hypot(whole.per_datum_se, parts.per_datum_se)).all()
    fresh = vb.log_evidence(fit, binary(5), method="elbo", progress=False)
    assert fresh.rows == 5
    options = {"num_particles": 8, "temperatures": 20, "progress": False}
    for method in ("ais", "sandwich"):
        found = vb.log_evidence(fit, method=method, batch_size=20, **options)
        assert found.rows == 30 == len(found.per_datum) and np.isfinite(found.per_datum).all()
        assert found.per_datum.sum() == pytest.approx(found.value, rel=1e-6)


def test_a_pair_without_latents_has_an_exact_evidence():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.param("mu", torch.tensor(0.5)), 1.0), obs=x)

    x = torch.tensor([0.0, 1.0])
    found = vb.log_evidence(vb.Pair(model, lambda x: None, name="plain"), x, progress=False)
    assert found.direction == "exact" and found.value == pytest.approx(float(dist.Normal(0.5, 1.0).log_prob(x).sum()))


def one_latent(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=x.mean())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evidence("normal_normal", "magic"), "method='magic' is not a way"),
        (lambda: evidence("normal_normal", "iw", num_particles=0), "num_particles=0 is below 1. Wanted: an integer"),
        (lambda: evidence("normal_normal", "ais", temperatures=0), "temperatures=0"),
        (lambda: vb.log_evidence(TRACTABLE["normal_normal"].pair()), "data=None"),
        (lambda: evidence("three_bernoulli", "ais"), "Latent 'b1' is discrete"),
        (lambda: evidence("discrete_chain", "sandwich"), "The data of site 'x1' are not passed"),
        (lambda: vb.log_evidence(vb.Pair(one_latent, AutoDelta(one_latent)), torch.ones(3), "iw"), "puts a point mass"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        call()


@pytest.mark.slow
@pytest.mark.on_cpu
def test_simulated_latents_are_found_behind_an_autoguide():
    def model(x):
        tau = pyro.sample("tau", dist.Gamma(3.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, tau), obs=x)

    pair = vb.Pair(model, AutoNormal(model, init_scale=0.5))
    found = vb.log_evidence(pair, torch.ones(4), "sandwich", num_particles=64, temperatures=100, progress=False)
    made = simulate(pair, vb.Batch((torch.ones(4),)), 0)
    grid = torch.linspace(0.001, 30.0, 20_000)
    joint = dist.Gamma(3.0, 1.0).log_prob(grid) + dist.Normal(0.0, grid).log_prob(made.batch.args[0][:, None]).sum(0)
    truth = float(joint.logsumexp(0)) + math.log(float(grid[1] - grid[0]))
    assert abs(found.value - truth) < 4 * found.se < 1.0


@pytest.mark.parametrize("make", ["linear_gaussian", "probabilistic_pca", "hmm", "hmm_summed"])
def test_exact_evidence_of_each_row_adds_up(make):
    with vb.seeded(0):
        x = torch.randn(7, 4)
    pair = {
        "linear_gaussian": lambda: TRACTABLE["linear_gaussian"].pair(),
        "probabilistic_pca": lambda: vb.pairs.probabilistic_pca(4, 2),
        "hmm": lambda: vb.pairs.hmm(2, rows=7, steps=4),
        "hmm_summed": lambda: vb.pairs.hmm_summed(2),
    }[make]()
    batch = TRACTABLE["linear_gaussian"].batch() if make == "linear_gaussian" else vb.Batch((x,))
    found = vb.log_evidence(pair, batch.args, progress=False)
    assert found.direction == "exact" and found.per_datum.shape == (len(batch.args[0]),)
    with pair.initialise(batch).scope(), torch.no_grad():
        assert found.per_datum.sum() == pytest.approx(found.value) == float(pair.exact.log_evidence(*batch.args))
    some = vb.log_evidence(pair, tuple(a[1:2] for a in batch.args), progress=False) if make != "hmm" else None
    assert some is None or some.value == pytest.approx(found.per_datum[1])
