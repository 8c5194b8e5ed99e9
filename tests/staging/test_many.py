"""Many runs at once, against the same runs one by one."""

from __future__ import annotations

import copy
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoIAFNormal, AutoMultivariateNormal, AutoNormal

import vbayes as vb
from tests import models
from vbayes.drawing.densities import densities
from vbayes.inference.draws import draws_of
from vbayes.pair.problem import Problem
from vbayes.pairs import TRACTABLE
from vbayes.staging import many as module
from vbayes.validation import validation

CPU = torch.device("cpu")


def mixture(x):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("component", 3):
        loc = pyro.sample("loc", dist.Normal(0.0, 3.0))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(weights), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(loc[k], 1.0), obs=x)


def branching(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(abs(z) if z > 0 else 2 * z, 1.0), obs=x)


def heavy(x):
    """Draws that `vmap` has no rule for in place, and those that come from no base noise."""
    tau = pyro.sample("tau", dist.HalfCauchy(torch.tensor(2.0)))
    rate = pyro.sample("rate", dist.Gamma(3.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(0.0, tau + rate), obs=x)


def prior_of(model):
    return poutine.block(model, hide=["x"])


X = torch.tensor([-0.5, 2.0, 1.0, 0.3])
PAIRS = {
    "schools": (vb.pairs.eight_schools, lambda: vb.data.eight_schools()),
    "full rank": (lambda: vb.Pair(heavy, AutoMultivariateNormal(heavy)), lambda: X),
    "prior": (lambda: vb.Pair(heavy, prior_of(heavy)), lambda: X),
    "summed out": (lambda: vb.Pair(mixture, AutoNormal(poutine.block(mixture, hide=["k"]))), lambda: X),
    "masked": (models.masked, lambda: torch.ones(4, 3)),
    "nested": (models.nested, lambda: torch.ones(4, 3)),
    "sequential": (models.sequential, lambda: torch.ones(4, 3)),
    "vae": (models.small_vae, models.binary),
    **{name: (known.pair, lambda known=known: known.batch().args) for name, known in TRACTABLE.items()},
}


@pytest.mark.parametrize("name", PAIRS)
def test_densities_are_those_at_the_same_latents(name):
    make, data = PAIRS[name]
    problem = Problem.of(make(), data())
    pair, batch = problem.pair, problem.whole
    found = draws_of(pair, batch, 50, 3)
    assert len(found) == 50 and all(len(values) == 50 for values in found.values.values())
    with pair.look(), torch.no_grad(), validation(False):
        for row in (0, 49):
            values = {n: v[row] for n, v in found.values.items()}
            if name == "full rank":  # whose own latent is none of the model's
                continue
            log_p, log_q, _ = densities(pair.model, pair.guide, batch.args, values)
            torch.testing.assert_close(found.log_p[row].to(log_p), log_p, rtol=1e-5, atol=1e-5)
            if name not in ("schools", "summed out"):  # under an autoguide a site's density is at another site
                torch.testing.assert_close(found.log_q[row].to(log_q), log_q, rtol=1e-5, atol=1e-5)


def test_all_of_these_are_drawn_at_once(monkeypatch):
    """A run of Pyro's for each draw would be forty of them."""
    for name, (make, data) in PAIRS.items():
        problem, runs = Problem.of(make(), data()), []
        original = problem.pair.run
        monkeypatch.setattr(
            problem.pair, "run", lambda batch, original=original, runs=runs: runs.append(0) or original(batch)
        )
        draws_of(problem.pair, problem.whole, 40, 0)
        assert len(runs) < 10, name


def test_moments_are_those_of_the_distribution():
    """Base noise, Cauchy's in place and Gamma's own, each within five standard errors; one row is not another."""
    problem = Problem.of(*(part() for part in PAIRS["prior"]))
    found = draws_of(problem.pair, problem.whole, 20_000, 0).values
    assert abs(float(found["rate"].mean()) - 3) < 5 * (3 / 20_000) ** 0.5
    below = (found["tau"] < 2.0).double().mean()  # the median of a half-Cauchy is its scale
    assert abs(float(below) - 0.5) < 5 * 0.5 / 20_000**0.5
    assert len(found["rate"].unique()) > 19_000 and len(found["tau"].unique()) > 19_000


def test_what_branches_on_its_draws_goes_one_by_one():
    pair = vb.Pair(branching, prior_of(branching))
    problem = Problem.of(pair, X)
    found = draws_of(problem.pair, problem.whole, 60, 0)
    z = found.values["z"]
    loc = torch.where(z > 0, z.abs(), 2 * z)
    right = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(loc[:, None], 1.0).log_prob(X).sum(-1)
    torch.testing.assert_close(found.log_p, right.double(), rtol=1e-5, atol=1e-5)


def test_numbers_of_numpy_are_not_the_same_in_all_draws():
    with vb.seeded(0), torch.no_grad():
        made = module.many(lambda: {"a": torch.tensor(np.random.rand()) + torch.randn(())}, 50, CPU)["a"]
        noise = module.many(lambda: {"a": torch.tensor(np.random.rand())}, 50, CPU)["a"]
    assert len(noise.unique()) == 50 and len(made.unique()) == 50


def test_chunks_are_bounded(monkeypatch):
    sizes = []
    monkeypatch.setattr(module, "ROOM", 4000 * 3 * 10)

    def run():
        return {"a": torch.randn(1000) + 1}

    with vb.seeded(0), torch.no_grad():
        for chunk in module.in_chunks(run, 50, CPU):
            sizes.append(len(chunk["a"]))
    assert sum(sizes) == 50 and 1 < max(sizes) <= 10


def test_few_are_drawn_as_they_always_were():
    problem = Problem.of(vb.pairs.eight_schools(), vb.data.eight_schools())
    found = draws_of(problem.pair, problem.whole, 3, 5)
    with problem.pair.scope(), torch.no_grad(), vb.seeded(5), validation(False):
        right = torch.stack([problem.pair.run(problem.whole)[0].nodes["mu"]["value"] for _ in range(3)])
    assert torch.equal(found.values["mu"], right) and math.isfinite(float(found.log_w.sum()))


def test_as_many_as_cost_little():
    """Cheap ones up to the most, costly ones as far as their bytes go, and what goes one by one the least."""

    def run(size, branch=False):
        value = torch.randn(size)
        return {"a": value * 2 if not branch or float(value.sum()) > 0 else -value}

    asked = module.Affordable(most=300, least=40, room=200 * 4 * 1000 * 3)
    with vb.seeded(0), torch.no_grad():
        found = [len(module.many(lambda f=f: f(), asked, CPU)["a"]) for f in (
            lambda: run(2), lambda: run(1000), lambda: run(100_000), lambda: run(2, True),
        )]  # fmt: skip
    assert found[0] == 300 and 100 <= found[1] <= 200 and found[2:] == [40, 40]


def test_modules_keep_nothing_that_cannot_be_copied():
    """Pyro's flows keep their last input and output, to invert it for free."""

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x)

    with vb.seeded(0):
        guide = AutoIAFNormal(model)
        problem = Problem.of(vb.Pair(model, guide), X)
    draws_of(problem.pair, problem.whole, 40, 0)
    copy.deepcopy(guide)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("count", [5, 40])
def test_each_run_is_handed_its_own(count, traced, monkeypatch):
    """One after the other, side by side, and as a program where `vmap` can't follow the run itself."""
    given = {"a": torch.arange(float(count)), "b": torch.ones(count, 3)}
    found = []
    plain = module._side_by_side
    monkeypatch.setattr(module, "_side_by_side", lambda *args: found.append(plain(*args)) or found[-1])

    def run(known):
        a = known["a"].data if traced else known["a"]
        return {"sum": a + known["b"] + 0.001 * torch.randn(3)}

    with torch.no_grad(), vb.seeded(0), validation(False):
        made = module.many(run, count, CPU, given)["sum"]
    assert all(one is not None for one in found) and len(found) == (count == 40)
    assert made.shape == (count, 3) and len(made.unique()) == 3 * count
    assert (abs(made - given["a"][:, None] - 1) < 0.006).all()


def test_chunks_are_handed_their_own(monkeypatch):
    monkeypatch.setattr(module, "ROOM", 8_000)
    given = {"a": torch.arange(300.0)}
    with torch.no_grad(), vb.seeded(0), validation(False):
        parts = list(module.in_chunks(lambda known: {"a": known["a"] + 0.0 * torch.randn(8)}, 300, CPU, given))
    assert len(parts) > 1
    torch.testing.assert_close(torch.cat([part["a"] for part in parts])[:, 0], given["a"])


def test_memory_of_a_card_that_torch_keeps_is_free(monkeypatch):
    """What the system counts as taken, and torch hands out again."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert module.free_memory(torch.device("cuda", 1)) == 600
