"""A model that draws its rows itself, or is handed a part of them: what is right on average may be had, the rest is refused."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO

import vbayes as vb
from tests.models import subsampled
from tests.quick import some_quick
from vbayes.estimators import ESTIMATORS

Y = torch.linspace(-1.5, 2.5, 40)
# log N(y; 0, I + 11ᵀ), the evidence of a mean with a standard normal prior.
TRUTH = float(dist.MultivariateNormal(torch.zeros(40), torch.eye(40) + 1).log_prob(Y))
TABLE = torch.linspace(-1, 2, 12).reshape(4, 3)
quiet = {"progress": False, "device": "cpu"}


def guide(y):
    loc = pyro.param("loc", torch.tensor(0.49))
    scale = pyro.param("scale", torch.tensor(0.16), constraint=dist.constraints.positive)
    pyro.sample("z", dist.Normal(loc, scale))


def mean_of_some(plate=lambda y: pyro.plate("data", 40, subsample_size=4)) -> vb.Pair:
    """Rows drawn by the model, under a latent of all."""

    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with plate(y) as rows:
            pyro.sample("y", dist.Normal(z, 1.0), obs=y[rows])

    return vb.Pair(model, guide, name="some")


def in_a_loop() -> vb.Pair:
    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        for i in pyro.plate("data", 40, subsample_size=4):
            pyro.sample(f"y{i}", dist.Normal(z, 1.0), obs=y[i])

    return vb.Pair(model, guide, name="loop")


def shown(y):
    return pyro.plate("data", 40, subsample=torch.arange(len(y)))


KNOWN = torch.ones(4, 3, dtype=torch.bool)
REFUSED = {
    "importance-weighted bound": lambda: vb.log_evidence(mean_of_some(), Y, method="iw", **quiet),
    "the best bound there is": lambda: vb.log_evidence(mean_of_some(), Y, **quiet),
    "annealing": lambda: vb.log_evidence(mean_of_some(), Y, method="ais", temperatures=5, **quiet),
    "rows in a loop": lambda: vb.log_evidence(in_a_loop(), Y, **quiet),
    "a table": lambda: vb.log_evidence(mean_of_some(), Y, method="exact", **quiet),
    "a table of a loop": lambda: vb.tabulate(in_a_loop(), vb.Batch((Y,))),
    "posterior": lambda: vb.posterior(mean_of_some(), Y),
    "posterior by weights": lambda: vb.posterior(subsampled(), TABLE, method="importance"),
    "models compared": lambda: vb.compare_models({"a": mean_of_some(), "b": mean_of_some()}, Y, **quiet),
    "impute": lambda: vb.impute(subsampled(), TABLE, KNOWN, progress=False),
    "reconstruct": lambda: vb.reconstruct(subsampled(), TABLE),
    "latent space": lambda: vb.LatentSpace(subsampled(), TABLE),
    "latent use": lambda: vb.latent_use(subsampled(), TABLE),
    "chains": lambda: vb.monte_carlo_em(subsampled(), TABLE, steps=1, progress=False),
    "draws": lambda: vb.to_arviz(vb.fit(in_a_loop(), Y, steps=1, **quiet), draws=3),
    "K particles in a fit": lambda: vb.fit(mean_of_some(), Y, vb.IWAE(), steps=1, **quiet),
    "K particles of other rows": lambda: vb.fit(subsampled(), TABLE, vb.DReG(3), steps=1, **quiet),
    "K particles of Pyro's": lambda: vb.fit(mean_of_some(), Y, RenyiELBO(num_particles=3), steps=1, **quiet),
    "K particles in a comparison": lambda: vb.compare(mean_of_some(), Y, ["iwae"], **quiet),
    "K particles in a race": lambda: vb.race(mean_of_some(), Y, ["vimco"], steps=2, **quiet),
    "K particles in Pyro's SVI": lambda: pyro.infer.SVI(
        mean_of_some().model, guide, pyro.optim.Adam({"lr": 0.1}), vb.IWAE(num_particles=4)
    ).step(Y),
    "a minibatch under a latent of all": lambda: vb.fit(
        mean_of_some(lambda y: pyro.plate("data", len(y))), Y, "iwae", batch_size=4, steps=1, **quiet
    ),
    "rows that are handed in, under a latent of all": lambda: vb.log_evidence(mean_of_some(shown), Y[:4], **quiet),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_wrong_is_refused_with_the_mend(case):
    refused = pytest.raises(vb.errors.BadInput, match=r"part of its data|'data'")
    with pyro.get_param_store().scope(), vb.seeded(0), refused as error:
        REFUSED[case]()
    mends = ("minibatches to vb.fit(batch_size=...)", "Wanted: all of them", "leave batch_size out")
    assert any(mend in str(error.value) for mend in mends)


@pytest.mark.parametrize("pair", [mean_of_some, in_a_loop], ids=["plate", "loop"])
def test_the_elbo_is_right_on_average(pair):
    """Rows and latents are drawn anew in each draw: the mean is the ELBO of all rows, and its error has both in it."""
    whole = mean_of_some(lambda y: pyro.plate("data", len(y)))
    with pyro.get_param_store().scope():
        right = float(vb.tabulate(whole, vb.Batch((Y,))).elbo())
    assert right == pytest.approx(TRUTH, abs=0.02) and right < TRUTH
    found = vb.log_evidence(pair(), Y, method="elbo", num_particles=1000, **quiet)
    assert abs(found.value - right) < 5 * found.se and found.per_datum is None
    # Of N²/M (1 − M/N) Var(log p(y_n | z)) a draw: rows that are drawn together hang together.
    each = dist.Normal(0.49, 1.0).log_prob(Y).var()
    assert found.se == pytest.approx(float((40**2 / 4 * 0.9 * each / 1000).sqrt()), rel=0.1)


def test_nothing_is_exact_without_latents_where_rows_are_drawn():
    def model(y):
        with pyro.plate("data", 40, subsample_size=4) as rows:
            pyro.sample("y", dist.Normal(pyro.param("m", torch.tensor(0.2)), 1.0), obs=y[rows])

    pair = vb.Pair(model, lambda y: None)
    with pytest.raises(vb.errors.Unsuitable, match="subsamples 4 of 40 rows"):
        vb.log_evidence(pair, Y, **quiet)
    found = vb.log_evidence(pair, Y, method="elbo", num_particles=500, **quiet)
    assert found.direction == "lower" and found.se > 0
    assert abs(found.value - float(dist.Normal(0.2, 1.0).log_prob(Y).sum())) < 5 * found.se


def test_rows_that_are_handed_in_count_once_however_many_at_a_time():
    """The plate scales a chunk of rows up to all; so their weights were N/M times too large."""

    def model(x, rows):
        with pyro.plate("data", 40, subsample=rows):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def local(x, rows):
        with pyro.plate("data", 40, subsample=rows):
            pyro.sample("z", dist.Normal(x / 2, pyro.param("scale", torch.tensor(0.7))))

    pair = vb.Pair(model, local)
    right = float(dist.Normal(0.0, 2**0.5).log_prob(Y).sum())
    for size in (40, 10):
        assert vb.log_evidence(pair, vb.Dataset({"x": Y}), batch_size=size, **quiet).value == pytest.approx(
            right, abs=0.05
        )
    # Weights of rows by themselves need no scale, and are right in minibatches too.
    fit = vb.fit(pair, vb.Dataset({"x": Y}), "iwae", batch_size=10, steps=4, learning_rate=1e-9, **quiet)
    assert fit.history.elbo.mean() == pytest.approx(right, abs=0.5)
    assert float(vb.posterior(pair, vb.Dataset({"x": Y[:4]}), draws=200).effective.min()) > 150


@pytest.mark.parametrize(
    "name",
    some_quick(
        sorted(ESTIMATORS),
        {"analytic_kl", "baselined", "enumerated", "iwae", "pathwise", "rloo", "score", "stl", "trace", "wake_sleep"},
    ),
)
def test_an_estimator_either_has_the_mean_of_all_rows_or_says_no(name):
    """Of a pair with a latent for each row, whose ELBO of all rows is known: one that takes it has the right value on average."""
    kind = ESTIMATORS[name]

    def model(x):
        with pyro.plate("data", 4, subsample_size=2) as rows:
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[rows])

    def local(x):
        loc = pyro.param("loc", lambda: torch.linspace(-3, 3, 4))
        with pyro.plate("data", 4, subsample_size=2) as rows:
            pyro.sample("z", dist.Normal(loc[rows], 0.5))

    pair, batch = vb.Pair(model, local).initialise(vb.Batch((TABLE[:, 0],))), vb.Batch((TABLE[:, 0],))
    many = kind().num_particles
    method = kind() if 1 < many <= 10 or kind is vb.DisARM else kind(num_particles=4)
    if kind is vb.DAIS:
        method = kind(num_particles=4, steps=0)  # which is the ELBO
    try:
        with pair.look():
            method.draw(pair, batch)
    except vb.errors.Unsuitable as error:
        assert not method.weighs or "same" in str(error) or "Use vb." in str(error)
        return
    assert not method.weighs
    x, loc = TABLE[:, 0], torch.linspace(-3, 3, 4)
    right = (
        dist.Normal(loc, 1.0).log_prob(x)
        - 0.125
        - torch.distributions.kl_divergence(dist.Normal(loc, 0.5), dist.Normal(0.0, 1.0))
    )
    if kind is vb.Fisher:  # slopes that differ by x − 2 loc + ε
        right = -(x - 2 * loc).square() - 1
    with pair.look():
        values = torch.tensor([-method.loss(model, local, *batch.args) for _ in range(300)])
    off, error = float(values.mean() - right.sum()), float(values.std()) / 300**0.5
    if kind is vb.LearnedDAIS:  # whose steps make the bound tighter: it lies between the ELBO and the evidence
        room = float(dist.Normal(0.0, 2**0.5).log_prob(x).sum() - right.sum())
        assert -5 * error < off < room + 5 * error
        return
    assert abs(off) < 5 * error
