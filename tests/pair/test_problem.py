"""What every verb starts from: pair and data together, looked at without a trace, with one answer to what does not fit."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import vbayes as vb
from vbayes.pair.problem import Problem

X = torch.linspace(-1.0, 2.0, 12)
quiet = {"progress": False, "device": "cpu"}


class Net(nn.Module):
    """A guide whose layer keeps running statistics."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.head = nn.Linear(1, 1)

    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x):
        pyro.module("net", self)
        loc = self.head(self.norm(x[:, None])).squeeze(-1)
        scale = pyro.param("scale", torch.tensor(0.7), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale))


def net() -> vb.Pair:
    torch.manual_seed(0)
    made = Net()
    return vb.Pair(made.model, made.guide, name="net")


def steps_seen(pair: vb.Pair) -> int:
    (count,) = (int(v) for k, v in pair.state().items() if k.endswith("num_batches_tracked"))
    return count


@pytest.fixture
def leaves_no_trace():
    """`net` seeds the generator; the process is to be as it was."""
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


@pytest.mark.usefixtures("leaves_no_trace")
@pytest.mark.parametrize(
    ("estimator", "compile"),
    [("analytic_kl", False), *(pytest.param("stl", each, marks=pytest.mark.slow) for each in (False, True))],
)
def test_two_steps_are_seen_twice_whoever_takes_them(compile, estimator):
    """Every verb looks at the pair before it trains: with other estimators, at other points. None of that may move running statistics.

    `STL` runs the guide twice a step, the second time at the constants that the first one drew: that is no further look at the data.
    """
    options = {"steps": 2, "batch_size": 4, "compile": compile, **quiet}
    fit = vb.fit(net(), X, estimator, **options)
    compared = vb.compare(net(), X, ["stl", "pathwise"], replicas=100, **options).fit
    raced = vb.race(net(), X, [estimator], seeds=[0], evaluations=1, **options).fits[estimator, 0]
    assert [steps_seen(one.pair) for one in (fit, compared, raced)] == [2, 2, 2]
    assert raced.history.elbo.tolist() == fit.history.elbo.tolist()
    assert all(torch.equal(value, raced.pair.state()[name]) for name, value in fit.pair.state().items())


@pytest.mark.slow
@pytest.mark.usefixtures("leaves_no_trace")
def test_where_the_laboratory_chooses_its_looks_are_not_seen():
    assert steps_seen(vb.fit(net(), X, "auto", steps=2, batch_size=4, compile=False, **quiet).pair) == 2


@pytest.mark.usefixtures("leaves_no_trace")
def test_looks_and_verbs_leave_the_callers_pair_as_it_was():
    pair = net()
    vb.check(pair, X, show=False)
    before = pair.state()
    vb.log_evidence(pair, X, num_particles=2, **quiet)
    vb.posterior(pair, X, draws=3, device="cpu")
    vb.reconstruct(pair, X)
    vb.noise_split(pair, X, batch_sizes=(4,), particles=(1,), minibatches=10, draws=2, progress=False)
    after = pair.state()
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)
    assert steps_seen(pair) == 0


def test_it_copies_and_checks_once():
    pair = vb.pairs.normal_normal()
    problem = Problem.of(pair, X[:2])
    assert problem.pair is not pair and not pair.parameters and problem.pair.parameters
    assert problem.device == torch.device("cpu") and problem.whole.total is None and problem.first.total == 2
    fit = vb.fit(pair, X[:2], steps=1, **quiet)
    again = Problem.of(fit, batch_size=None)
    assert again.data is fit.data or torch.equal(again.data.first, fit.data.first)
    assert all(torch.equal(v, again.pair.parameters[k]) for k, v in fit.pair.parameters.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vae", X), "is a str, not a pair"),
        (((vb.pairs.normal_normal,), X), "is a tuple, not a pair"),
        ((vb.pairs.normal_normal(), None), "data=None is nothing. Wanted: data"),
    ],
)
@pytest.mark.parametrize(
    "verb", [vb.fit, vb.compare, vb.race, vb.recommend, vb.log_evidence, vb.posterior, vb.monte_carlo_em]
)
def test_every_verb_has_the_same_answer_to_no_pair_and_no_data(verb, arguments, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        verb(*arguments)


@pytest.mark.parametrize("verb", [vb.fit, vb.compare, vb.race, vb.recommend, vb.monte_carlo_em])
def test_every_verb_has_the_same_answer_to_a_batch_that_does_not_fit(verb):
    with pytest.raises(vb.errors.BadData, match="batch_size=99 does not fit data set 'data' with 12 rows"):
        verb(vb.pairs.normal_normal(), X, batch_size=99)


def test_a_fit_is_taken_wherever_a_pair_is():
    fit = vb.fit(vb.pairs.normal_normal(), X[:2], "stl", steps=20, learning_rate=0.1, **quiet)
    further = vb.fit(fit, estimator="stl", steps=0, **quiet)
    assert all(torch.equal(v, further.parameters[k]) for k, v in fit.parameters.items())
    raced = vb.race(fit, estimators=["stl"], steps=1, seeds=1, **quiet)
    start = raced.to_dataframe().elbo_per_datum.iloc[0]
    exact = fit.pair.exact
    assert exact is not None
    with fit.pair.scope():
        assert start == pytest.approx(float(exact.elbo(X[:2]).detach()) / 2)


@pytest.mark.usefixtures("leaves_no_trace")
def test_other_pairs_over_the_same_data_must_have_the_same_parameters():
    problem = Problem.of(vb.pairs.normal_normal(), X[:2])
    other = problem.alike(vb.pairs.normal_normal(), "at['here']")
    assert other.parameters.keys() == problem.pair.parameters.keys()
    with pytest.raises(
        vb.errors.BadInput, match=r"at\['there'\] has parameters .* Wanted: those of pair 'normal_normal'"
    ):
        problem.alike(vb.Pair(vb.pairs.normal_normal().model, net().guide), "at['there']")
