"""What an estimator remembers before its first draw is what it says, wherever it is used."""

from __future__ import annotations

from dataclasses import dataclass

import pyro
import pytest
import torch
from pyro.infer import SVI

import vbayes as vb
from tests.models import binary, small_vae
from vbayes.estimators.remembering import Remembering

X = torch.tensor([-0.5, 2.0])


@dataclass(frozen=True)
class Divided(Remembering):
    """Log w over a moving average of ones for each datum: right from the first draw on if that starts at one, nowhere if it starts at zero."""

    needs = frozenset({"log_p", "log_q"})
    requires = frozenset({"path"})
    remembers = ("ones",)

    def init(self, particles):
        return {"ones": particles.log_p.new_ones(particles.local)}

    def estimate(self, particles):
        ones = self.memory.ones
        self.memory.ones = 0.9 * ones + 0.1 * torch.ones_like(ones)
        value = particles.log_w.mean(0)
        return vb.Estimate(value.detach(), value / ones)


def test_in_the_laboratory():
    pair = vb.pairs.normal_normal()
    row = vb.compare(pair, X, [Divided()], at={"here": pair}, replicas=1000, progress=False).to_dataframe().iloc[0]
    assert row.variance > 0.1 and abs(row.bias_z) < 4.5


@pytest.mark.slow
def test_in_a_split_of_the_noise():
    options = {"batch_sizes": (2,), "particles": (1,), "minibatches": 10, "draws": 2, "progress": False}
    split = vb.noise_split(small_vae(), binary(8), Divided(), **options).to_dataframe()
    assert 0 < split.total[0] < float("inf")


@pytest.mark.parametrize("compile", [False, True])
def test_in_a_fit(compile, tmp_path):
    options = {"batch_size": 2, "compile": compile, "progress": False}
    fit = vb.fit(small_vae(), binary(8), Divided(), steps=5, **options)
    (kept,) = (value for name, value in fit.pair.state().items() if name.endswith(".ones"))
    assert kept.tolist() == [1.0, 1.0]
    again = vb.Fit.load(fit.save(tmp_path / "fit.safetensors"), small_vae(), binary(8), estimator=Divided())
    assert again.resume(steps=5, progress=False).steps == 10


@pytest.mark.parametrize("make", [SVI, vb.SVI])
def test_in_svi(make):
    pyro.clear_param_store()
    pair, method = vb.pairs.normal_normal(), Divided()
    svi = make(pair.model, pair.guide, pyro.optim.Adam({"lr": 0.02}), loss=method)
    with vb.seeded(0):
        assert svi.step(X) > 0
    assert method.memory.ones.tolist() == [1.0, 1.0]
    pyro.clear_param_store()


def test_a_restart_starts_with_what_init_says():
    """And not with numbers that a module of a memory draws anew: squares can't be negative."""
    tractable = vb.pairs.TRACTABLE["bernoulli_toy"]
    options = {"steps": 3, "compile": False, "progress": False}
    fits = vb.fit(tractable.pair(), tractable.batch().args[0], vb.RELAX(), restarts=3, **options).fits
    assert [fit.steps for fit in fits] == [3, 3, 3]
    assert all((value >= 0).all() for fit in fits for name, value in fit.pair.buffers.items() if ".square." in name)


@pytest.mark.parametrize("estimator", ["baselined", "relax"])
def test_a_checkpoint_goes_on(estimator, tmp_path):
    tractable = vb.pairs.TRACTABLE["bernoulli_toy"]
    pair, x, options = tractable.pair(), tractable.batch().args[0], {"compile": False, "progress": False}
    for steps in (3, 6):
        kept = vb.fit(pair, x, estimator, steps=steps, checkpoint=tmp_path / "fit.safetensors", **options)
    whole = vb.fit(pair, x, estimator, steps=6, **options)
    assert kept.steps == 6 and all(torch.equal(v, kept.pair.state()[k]) for k, v in whole.pair.state().items())
