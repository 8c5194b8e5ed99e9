"""Guides by a word, and the searches that place them, against posteriors in closed form."""

from __future__ import annotations

import json

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide.initialization import InitMessenger
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributions import constraints

import vbayes as vb
from vbayes.diagnostics.climb import bent
from vbayes.guides import GUIDES, Flow, Full
from vbayes.guides.curvature import each_alone, inverse_root
from vbayes.guides.log_density import LogDensity
from vbayes.guides.whitened import origin

quiet = {"progress": False, "device": "cpu"}
HEIGHT = torch.linspace(1400.0, 2000.0, 40)  # millimetres, as they come: nothing is standardised
COLUMNS = torch.stack([torch.ones(40), HEIGHT, HEIGHT / 1000 * torch.tensor([1.0, -1.0] * 20)], 1)
Y = 3e4 + 12.0 * HEIGHT + 500.0 * torch.sin(torch.arange(40.0))
SD = 700.0


def regression(x, y):
    """Flat priors and a known standard deviation, so that the posterior is normal."""
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (3,)))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(x @ beta, SD), obs=y)


def of_regression() -> tuple[Tensor, Tensor]:
    x, y = COLUMNS.double(), Y.double()
    covariance = torch.linalg.inv(x.T @ x) * SD**2
    return covariance @ x.T @ y / SD**2, covariance


def moments(fit: vb.Fit) -> tuple[Tensor, Tensor]:
    with fit.pair.scope(), torch.no_grad():
        q = fit.pair.guide.get_posterior()
        return q.mean.double(), q.covariance_matrix.double()


DATA = {"x": COLUMNS, "y": Y}


@pytest.mark.parametrize(
    "fitted",
    [
        lambda: vb.fit(regression, DATA, guide="full", steps=0, **quiet),
        lambda: vb.laplace(regression, DATA, device="cpu"),
        lambda: vb.fit(regression, DATA, steps=0, **quiet),
    ],
    ids=["full", "laplace", "auto"],
)
def test_a_normal_posterior_is_found_at_once_in_whatever_units(fitted):
    """Columns of 1, 1400 to 2000 and ±2."""
    mean, covariance = of_regression()
    ours, spread = moments(fitted())
    sd = covariance.diagonal().sqrt()
    assert ((ours - mean).abs() < 1e-3 * sd).all()
    torch.testing.assert_close(spread / sd / sd[:, None], covariance / sd / sd[:, None], rtol=1e-3, atol=1e-3)


def test_pathfinder_is_near_and_the_mode_is_the_mean():
    mean, covariance = of_regression()
    sd = covariance.diagonal().sqrt()
    point = vb.find_map(regression, DATA, device="cpu").parameters["Point.beta"].double()
    assert ((point - mean).abs() < 1e-3 * sd).all()

    def scaled(x, y):
        beta = pyro.sample("beta", dist.Normal(torch.zeros(3), 3.0).to_event(1))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(x @ beta, 0.5), obs=y)

    x = torch.stack([torch.ones(40), *torch.randn(2, 40, generator=torch.Generator().manual_seed(0))], 1)
    y = x @ torch.tensor([1.0, 2.0, -1.0])
    precision = (x.T @ x / 0.25 + torch.eye(3) / 9).double()
    wanted = torch.linalg.solve(precision, (x.T @ y / 0.25).double())
    ours, spread = moments(vb.pathfinder(scaled, {"x": x, "y": y}, device="cpu"))
    sd = torch.linalg.inv(precision).diagonal().sqrt()
    assert ((ours - wanted).abs() < 0.1 * sd).all()
    assert ((spread.diagonal().sqrt() / sd).log().abs() < 0.3).all()


def test_mean_field_has_the_conditional_widths():
    """The best independent normals have the precision's diagonal, not the covariance's."""
    mean, covariance = of_regression()
    fit = vb.fit(regression, DATA, guide="diagonal", steps=0, **quiet)
    with fit.pair.scope(), torch.no_grad():
        q = fit.pair.guide.get_posterior()
    wanted = torch.linalg.inv(covariance).diagonal().rsqrt()
    torch.testing.assert_close(q.stddev.double() / wanted, torch.ones(3).double(), rtol=1e-2, atol=0.0)
    assert ((q.mean.double() - mean).abs() < 0.05 * wanted).all()


def test_a_low_rank_of_all_columns_has_all_covariances():
    mean, covariance = of_regression()
    guide = vb.guides.LowRank(regression, rank=3)
    ours, spread = moments(vb.fit(vb.Pair(regression, guide), DATA, steps=0, **quiet))
    sd = covariance.diagonal().sqrt()
    assert ((ours - mean).abs() < 0.05 * sd).all()
    torch.testing.assert_close(spread / sd / sd[:, None], covariance / sd / sd[:, None], rtol=0.05, atol=0.05)


def test_a_flow_starts_where_the_full_normal_does():
    full, flow = (vb.fit(regression, DATA, guide=word, steps=0, **quiet).pair for word in ("full", "flow"))
    beta = of_regression()[0].float() * torch.tensor([1.001, 1.001, 0.9])
    found = []
    for pair in (full, flow):
        with pair.scope(), torch.no_grad():
            found.append(pair.guide.get_posterior().log_prob(beta))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)
    fit = vb.fit(flow, DATA, "stl", steps=3, learning_rate=1e-3, compile=False, **quiet)
    assert fit.history.elbo.notna().all()
    with fit.pair.scope(), pytest.raises(NotImplementedError, match="vb.posterior"):
        fit.pair.guide.quantiles([0.5])


def two_groups(x):
    with pyro.plate("groups", 2):
        loc = pyro.sample("loc", dist.Normal(0.0, 5.0))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.5, 0.5])))
        pyro.sample("x", dist.Normal(loc[k], 1.0), obs=x)


X = torch.cat([torch.linspace(-4.0, -2.0, 10), torch.linspace(2.0, 4.0, 10)])


def test_discrete_latents_are_summed_out_and_both_orders_are_found():
    """Which group is which the data do not say: two modes of the same height, mirror images."""
    fit = vb.fit(two_groups, X, steps=0, **quiet)
    places = fit.pair.guide.places
    assert len(places.others) == 1
    torch.testing.assert_close(places.best.centre, places.others[0].centre.flip(0), rtol=0.02, atol=0.02)
    assert abs(places.best.elbo - places.others[0].elbo) < 0.05
    grid = torch.linspace(-5.0, 5.0, 201, dtype=torch.float64)
    one, two = torch.meshgrid(grid, grid, indexing="ij")
    like = torch.logaddexp(*(dist.Normal(at[..., None], 1.0).log_prob(X.double()) for at in (one, two))).sum(-1)
    weight = (like + dist.Normal(0.0, 5.0).log_prob(one) + dist.Normal(0.0, 5.0).log_prob(two)).exp() * (one < two)
    low = float((weight * one).sum() / weight.sum())
    assert float(places.best.centre.min()) == pytest.approx(low, abs=0.02)
    assert vb.fit(two_groups, X, steps=2, **quiet).estimator == vb.Enumerated()
    found = vb.diagnose(fit, draws=500)
    assert found.trust == "bad" and found.modes == pytest.approx((0.5,), abs=0.05)
    assert "another mode, with about 0.5" in found.verdict() and "other modes" in repr(found)
    without = vb.posterior(fit, draws=50)
    assert without.trust == "bad" and without.advice.words() in found.verdict(), "no diagnosis was made of the fit"


def test_where_there_is_no_mode_the_best_place_on_the_way_counts():
    """Neal's funnel: the density grows without end towards v → −∞, where no mass is."""

    def funnel(y):
        v = pyro.sample("v", dist.Normal(0.0, 3.0))
        pyro.sample("x", dist.Normal(torch.zeros(5), (v / 2).exp()).to_event(1))
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)

    found = vb.fit(funnel, torch.tensor([0.0]), guide="full", steps=0, **quiet).pair.guide.places.best
    assert found.gain > 0.1 and abs(float(found.centre[0])) < 6.0
    # log p(y) is known, and any ELBO is below; that of the normal is within some nats.
    truth = float(dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.0)))
    assert truth - 3.0 < found.elbo < truth + 0.2


def test_an_improper_posterior_is_told():
    """Separated classes under a flat prior: the steeper the better, without end. Under a normal prior there is an end."""
    x = torch.linspace(-2.0, 2.0, 20)

    def separated(x, y, sd=None):
        prior = (
            dist.ImproperUniform(constraints.real_vector, (), (2,))
            if sd is None
            else dist.Normal(torch.zeros(2), sd).to_event(1)
        )
        beta = pyro.sample("beta", prior)
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Bernoulli(logits=beta[0] + beta[1] * x), obs=y)

    data = {"x": x, "y": (x > 0.15).float()}
    fit = vb.fit(separated, data, steps=0, **quiet)
    found = vb.diagnose(fit, draws=500)
    assert found.trust == "bad" and "the density does not decay" in found.verdict() and "beta[1]" in found.endless
    proper = vb.fit(lambda x, y: separated(x, y, 3.0), data, steps=0, **quiet)
    assert not proper.pair.guide.places.endless and not vb.diagnose(proper, draws=500).endless
    assert not vb.fit(regression, DATA, steps=0, **quiet).pair.guide.places.endless  # flat priors, and data that speak


@pytest.mark.parametrize("off", [0.0, 1e-7, 0.01])
@pytest.mark.parametrize("word", ["full", "diagonal"])
def test_a_search_that_begins_at_the_mode_does_not_take_the_posterior_for_improper(off, word):
    """The way from the start to the mode has no length then, and the density can't fall along it."""

    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    fit = vb.fit(model, torch.full((2,), off), guide=word, steps=0, **quiet)
    assert not fit.pair.guide.places.endless and "improper" not in fit.diagnose(draws=500).verdict()


def test_a_density_is_the_models_with_the_volume_of_the_map():
    def model(y):
        rate = pyro.sample("rate", dist.Gamma(2.0, 3.0))
        share = pyro.sample("share", dist.Dirichlet(torch.ones(3)))
        pyro.sample("y", dist.Poisson(rate * share).to_event(1), obs=y)

    y = torch.tensor([1.0, 0.0, 2.0])
    run = pyro.poutine.trace(InitMessenger(origin)(model)).get_trace(y)
    density = LogDensity(model, (y,), {}, run)
    assert density.captured and density.size == 3 and density.dtype == torch.float64
    numbers = torch.tensor([[0.3, 0.5, -0.2], [0.0, 0.0, 0.0]], dtype=torch.float64)
    for row, value in zip(numbers, density.many(numbers), strict=True):
        rate, to = row[0].exp(), constraints.simplex
        transform = torch.distributions.biject_to(to)
        share = transform(row[1:])
        wanted = dist.Gamma(2.0, 3.0).log_prob(rate) + row[0] + dist.Dirichlet(torch.ones(3).double()).log_prob(share)
        wanted = wanted + transform.log_abs_det_jacobian(row[1:], share) + dist.Poisson(rate * share).log_prob(y).sum()
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-6)
    step = 1e-5
    for place in range(3):
        away = torch.zeros(3, dtype=torch.float64).index_fill(0, torch.tensor(place), step)
        slope = (density.many(numbers + away) - density.many(numbers - away)) / (2 * step)
        torch.testing.assert_close(density.gradients(numbers)[:, place], slope, rtol=1e-5, atol=1e-5)
        bend = (density.gradients(numbers + away) - density.gradients(numbers - away)) / (2 * step)
        torch.testing.assert_close(density.hessians(numbers)[:, place], bend, rtol=1e-4, atol=1e-4)


def test_roots_of_what_bends_either_way():
    hessian = torch.tensor([[4e8, 1e3, 0.0], [1e3, -1.0, 1e-4], [0.0, 1e-4, 1e-6]], dtype=torch.float64)
    root = inverse_root(hessian)
    assert root is not None and (root.triu(1) == 0).all() and (root.diagonal() > 0).all()
    values, vectors = torch.linalg.eigh(root.T @ hessian @ root)
    torch.testing.assert_close(values.abs(), torch.ones(3).double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(inverse_root(each_alone(hessian)), hessian.diagonal().abs().rsqrt().diag())
    assert inverse_root(torch.zeros(2, 2, dtype=torch.float64)) is None


def test_many_latents_have_their_mode_and_widths():
    """400 latents, of which second derivatives are not taken; independent here, so that widths are known."""
    sd = torch.linspace(0.1, 3.0, 400)

    def model(y):
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Normal(1.0, sd))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    y = torch.linspace(-2.0, 2.0, 400)
    fit = vb.fit(model, y, guide="diagonal", steps=0, **quiet)
    with fit.pair.scope(), torch.no_grad():
        q = fit.pair.guide.get_posterior()
    precision = 1 + sd**-2
    torch.testing.assert_close(q.stddev, precision.rsqrt(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(q.mean, (y + sd**-2) / precision, rtol=1e-2, atol=1e-2)


def test_pyro_takes_them_as_any_guide():
    with pyro.get_param_store().scope(), vb.seeded(0):
        guide = Full(regression)
        svi = SVI(regression, guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
        svi.step(COLUMNS, Y)
        low, high = guide.quantiles([0.16, 0.84])["beta"]
        assert set(guide(COLUMNS, Y)) == {"beta"}
    mean, covariance = of_regression()
    torch.testing.assert_close(
        ((high - low) / 2).double() / covariance.diagonal().sqrt(),
        torch.full((3,), 0.9945).double(),
        rtol=0.05,
        atol=0.0,
    )


def test_a_pair_by_a_word_is_a_pair():
    pair = vb.Pair(regression)
    assert pair.word == "auto" and "auto" in repr(pair) and pair.copy().word == "auto"
    assert vb.Pair(regression, Flow(regression)).word == "flow"
    first = vb.fit(pair, DATA, steps=5, learning_rate=0.01, compile=False, **quiet)
    assert not pair.parameters and first.pair.parameters
    found = vb.compare(pair, DATA, ["stl", "trace"], at={"here": first.pair}, replicas=100, **quiet)
    assert (found.to_dataframe().bias_z.dropna().abs() < 5).all()


def no_search(*args, **kwargs):
    raise AssertionError("a search")


@pytest.mark.parametrize("word", GUIDES)
def test_every_word_is_saved_and_loaded(word, tmp_path, monkeypatch):
    """Without a search, by its word and by none."""
    fit = vb.fit(regression, DATA, guide=word, steps=2, learning_rate=1e-4, compile=False, **quiet)
    path = fit.save(tmp_path / "fit.safetensors")
    monkeypatch.setattr("vbayes.guides.whitened.density_of", no_search)
    monkeypatch.setattr("vbayes.guides.point.density_of", no_search)
    for pair in (vb.Pair(regression, word), vb.Pair(regression)):
        again = vb.Fit.load(path, pair, DATA)
        assert again.pair.word == word and again.estimator == fit.estimator
        assert all(torch.equal(value, again.parameters[name]) for name, value in fit.parameters.items())
        for name, value in fit.pair.state().items():
            assert torch.equal(value, again.pair.state()[name])
        assert again.pair.guide.search == fit.pair.guide.search
    one, two = (each.resume(steps=1, progress=False) for each in (fit, again))
    assert [row[2] for row in one.rows] == [row[2] for row in two.rows] and one.steps == 3


def test_what_was_found_beside_its_place_comes_back(tmp_path, monkeypatch):
    path = vb.fit(two_groups, X, steps=0, **quiet).save(tmp_path / "fit.safetensors")
    monkeypatch.setattr("vbayes.guides.whitened.density_of", no_search)
    found = vb.diagnose(vb.Fit.load(path, vb.Pair(two_groups), X), draws=500)
    assert found.trust == "bad" and found.modes == pytest.approx((0.5,), abs=0.05)


def test_a_flow_that_was_climbed_to_comes_back(tmp_path):
    normal = vb.fit(regression, DATA, steps=0, **quiet)
    path = bent(normal).save(tmp_path / "fit.safetensors")
    again = vb.Fit.load(path, vb.Pair(regression), DATA)
    assert again.pair.word == "flow" and again.estimator == vb.STL(16)
    assert vb.diagnose(again, draws=2000).trust == "good"
    with pytest.raises(vb.errors.BadInput, match="guide='flow', and pair 'regression' has guide='full'"):
        vb.Fit.load(path, vb.Pair(regression, "full"), DATA)


def test_what_is_no_guide_is_damage_and_older_files_look_again(tmp_path):
    path = vb.fit(regression, DATA, guide="low_rank", steps=0, **quiet).save(tmp_path / "fit.safetensors")
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["vbayes"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}

    def load(**changed):
        # As files were written before there were checksums.
        save_file(tensors, path, metadata={"vbayes": json.dumps(told | changed)})
        return vb.Fit.load(path, vb.Pair(regression, "low_rank"), DATA)

    guide = told["guide"]
    for wrong in (
        7, guide | {"word": "fulll"}, guide | {"options": {"rank": 10**9}}, guide | {"places": []}, guide | {"places": [{}]},
        guide | {"endless": [1]}, {"word": "low_rank"},
    ):  # fmt: skip
        with pytest.raises(vb.errors.BadInput, match="damaged: its field 'guide' is not valid"):
            load(guide=wrong)
    assert load(guide=None).pair.guide.search is not None, "it looks again"
    tensors["place.0.centre"] = tensors["place.0.centre"][:2]
    tensors["place.0.root"] = tensors["place.0.root"][:2, :2].contiguous()
    with pytest.raises(vb.errors.BadInput, match="The guide has 2 numbers, but the model has 3"):
        load()


def endless(y):
    n = pyro.sample("n", dist.Poisson(3.0))
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(mu + n, 1.0), obs=y)


def all_discrete(y):
    pyro.sample("y", dist.Normal(pyro.sample("k", dist.Bernoulli(0.5)), 1.0), obs=y)


def one_each(y):
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=y)


def nowhere(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.factor("never", mu * 0 - torch.inf)
    pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vb.Pair(regression, "fulll"), r"no guide named 'fulll'. Did you mean 'full'"),
        (lambda: vb.fit(vb.pairs.normal_normal(), Y, guide="full", steps=1, **quiet), r"guide='full' for a Pair"),
        (lambda: vb.fit(endless, Y[:1], steps=0, **quiet), r"Latent 'n' is discrete with infinitely many values"),
        (
            lambda: vb.fit(all_discrete, Y[:1], steps=0, **quiet),
            r"All latents of the model are discrete \('k'\).*vb.tabulate",
        ),
        (lambda: vb.fit(one_each, Y, steps=0, batch_size=10, **quiet), r"latents for each row.*all rows at once"),
        (lambda: vb.fit(nowhere, Y[:1], steps=0, **quiet), r"From no start was a point found"),
        (
            lambda: vb.fit(one_each, torch.zeros(20_000), guide="full", steps=0, **quiet),
            r"20,000 latents.*GB.*'low_rank'",
        ),
        (lambda: vb.pathfinder(regression, DATA, paths=0), r"paths=0 is below 1. Wanted: an integer of at least 1"),
    ],
    ids=["word", "guide of a pair", "endless", "all discrete", "minibatches", "nowhere", "too many", "paths"],
)
def test_what_can_not_be_is_said(call, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        call()


@pytest.mark.parametrize(
    "first", [lambda: torch.randn(2, 3), lambda: 0.1 * torch.randn(2, 3)], ids=["drawn", "and scaled"]
)
def test_a_parameter_whose_first_value_is_drawn_in_the_model(first):
    """Pyro asks for it in every run, and takes it in the first."""

    def model(x):
        w = pyro.param("w", first())
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z @ w, 1.0).to_event(1), obs=x)

    with vb.seeded(0):
        fit = vb.fit(model, torch.randn(20, 3), steps=2, compile=False, progress=False)
    assert fit.pair.guide.places is not None and fit.history.elbo_per_datum.notna().all()
