"""Many particles at once give what they give one by one, and what can't be had at once is had one by one."""

from __future__ import annotations

import functools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.infer.autoguide import AutoIAFNormal, AutoNormal

import vbayes as vb
from vbayes.drawing import draw as drawing
from vbayes.drawing import side_by_side

K = 17
X = torch.tensor([-0.5, 2.0, 0.3])
ESTIMATORS = {
    "trace": vb.Trace(K),
    "antithetic": vb.IWAE(K, noise="antithetic"),
    "sobol": vb.AnalyticKL(K, noise="sobol"),
    "scored": vb.RaoBlackwell(K),
    "score": vb.RLOO(K),
    "fixed": vb.STL(K),
    "dreg": vb.DReG(K),
    "sleep": vb.WakeSleep(K),
}


def model(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        w = pyro.sample("w", dist.LogNormal(z, 0.5))
        pyro.sample("x", dist.Normal(w, 1.0), obs=x)


def of(make, model=model, guide=None, x=X, seed=3):
    """Value and gradients of some estimator, and where the generator then is."""
    guide = guide or AutoNormal(model)
    with vb.seeded(0):
        guide(x)
    with vb.seeded(seed), pyro.poutine.trace(param_only=True) as seen:
        loss, after = make.loss_and_grads(model, guide, x), torch.rand(1)
    params = [site["value"].unconstrained() for site in seen.trace.nodes.values()]
    pyro.clear_param_store()
    return [torch.tensor(loss), *(p.grad for p in params if p.grad is not None)], after


def one_by_one(monkeypatch, *args, **kwargs):
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "FEW", 10**9)
        return of(*args, **kwargs)


def same(found, wanted):
    assert len(found[0]) == len(wanted[0]) > 1
    for mine, right in zip(found[0], wanted[0], strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-5)


@pytest.fixture
def at_once(monkeypatch):
    """Whether each draw of many was at once."""
    seen, was = [], side_by_side._at_once
    monkeypatch.setattr(side_by_side, "_at_once", lambda *a, **k: seen.append(was(*a, **k)) or seen[-1])
    return seen


@pytest.mark.parametrize("name", ESTIMATORS)
def test_at_once_and_one_by_one_are_the_same(name, monkeypatch, at_once):
    found = of(ESTIMATORS[name])
    assert at_once and at_once[0] is not None
    wanted = one_by_one(monkeypatch, ESTIMATORS[name])
    same(found, wanted)
    assert len(at_once) == 1 and torch.equal(found[1], wanted[1])


def test_model_and_guide_run_a_few_times_only():
    calls = []

    def counted(x):
        calls.append(1)
        model(x)

    with vb.seeded(0):
        SVI(counted, AutoNormal(model), pyro.optim.Adam({"lr": 0.01}), loss=vb.Trace(500)).step(X)
    pyro.clear_param_store()
    assert len(calls) <= 5


def test_in_chunks(monkeypatch, at_once):
    whole = of(vb.Trace(K))
    sizes = []
    was = side_by_side.vmap
    monkeypatch.setattr(side_by_side, "vmap", lambda *a, **k: sizes.append(k["chunk_size"]) or was(*a, **k))
    monkeypatch.setattr(
        side_by_side.Cost, "bytes", property(lambda self: side_by_side.ROOM // 5, lambda *_: None), raising=False
    )
    same(of(vb.Trace(K)), whole)
    assert sizes == [5] and len(at_once) == 2


def test_draws_that_are_no_base_noise(at_once):
    """The mean of many is the closed form: a Gamma draws by an operation of its own."""

    def gamma(x):
        pyro.sample("rate", dist.Gamma(2.0, 1.0))

    def guide(x):
        pyro.sample("rate", dist.Gamma(pyro.param("a", torch.tensor(3.0)), 1.0))

    drawn = vb.Trace(2000)
    found = of(drawn, gamma, guide)
    assert at_once[0] is not None
    closed = torch.distributions.kl_divergence(dist.Gamma(3.0, 1.0), dist.Gamma(2.0, 1.0))
    with vb.seeded(1):
        z = dist.Gamma(3.0, 1.0).sample([4000])
    each = dist.Gamma(2.0, 1.0).log_prob(z) - dist.Gamma(3.0, 1.0).log_prob(z)
    assert abs(float(found[0][0] - closed)) < 5 * float(each.std()) / 2000**0.5


def branching(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z if z > 0 else 2 * z, 1.0).expand([3]).to_event(1), obs=x)


def of_another_length(x):
    """The second draw is there for some only."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("f", torch.randn(()) if z > 0 else torch.rand(2).sum())


def by_numpy(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("f", z * float(np.random.rand()))


@pytest.mark.parametrize("fn", [branching, of_another_length, by_numpy])
def test_what_works_alone_only_is_drawn_one_by_one(fn, monkeypatch, at_once):
    side_by_side._say_once.cache_clear()
    found = of(vb.Trace(K), fn, AutoNormal(branching))
    assert all(each is None for each in at_once)
    if fn is branching:
        same(found, one_by_one(monkeypatch, vb.Trace(K), fn, AutoNormal(branching)))


def test_it_says_so_once_where_they_are_many():
    side_by_side._say_once.cache_clear()
    with pytest.warns(
        UserWarning,
        match="drawn one by one, with a separate run of model and guide for each: model or guide branch on drawn values",
    ):
        of(vb.Trace(100), branching)
    of(vb.Trace(100), branching)


def test_running_statistics_are_as_one_by_one(monkeypatch):
    def pair():
        with vb.seeded(0):
            net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))

        def normed(x):
            pyro.module("net", net)
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.plate("rows", 3):
                pyro.sample("x", dist.Normal(net(x[:, None])[:, 0] + z, 1.0), obs=x)

        return net, normed

    stats = []
    for run in (of, functools.partial(one_by_one, monkeypatch)):
        net, normed = pair()
        run(vb.Trace(K), normed, AutoNormal(normed))
        stats.append(net[1].running_mean)
        assert int(net[1].num_batches_tracked) > K
    assert torch.equal(*stats)


def test_what_a_flow_keeps_can_be_copied_and_saved():
    flow = AutoIAFNormal(model)
    found = of(vb.Trace(K), guide=flow)
    kept = [value for module in flow.modules() for value in vars(module).values() if isinstance(value, torch.Tensor)]
    assert torch.isfinite(found[0][0]) and kept and not any(map(torch._C._functorch.is_batchedtensor, kept))


def test_inside_of_others_maps_and_traces():
    """What is mapped or traced itself sees no values."""
    pair = vb.Pair(model, AutoNormal(model), name="mapped")
    options = {"steps": 3, "progress": False, "device": "cpu", "seed": 0}
    found, other = (vb.fit(pair, X, vb.IWAE(K), compile=compile, **options) for compile in (True, False))
    assert found.engine == "native" and np.isfinite(other.rows.elbo).all()
