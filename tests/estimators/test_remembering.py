"""What an estimator remembers before its first draw is what it says, wherever it is used."""

from __future__ import annotations

from dataclasses import dataclass

import pyro
import pytest
import torch
from pyro.infer import SVI

import vbayes as vb
from tests.models import binary, small_vae
from vbayes.estimators.remembering import Averaging, Remembering

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


@pytest.mark.parametrize("then", ["relax", "baselined", "stl"])
def test_a_fit_that_goes_on_from_another_is_kept_with_its_own_memory(then, tmp_path):
    """And not with the first one's too, which `load` would find no place for."""
    tractable = vb.pairs.TRACTABLE["bernoulli_toy" if then == "relax" else "normal_normal"]
    x, options = tractable.batch().args[0], {"steps": 3, "compile": False, "progress": False}
    first = vb.fit(tractable.pair(), x, "baselined", **options)
    second = vb.fit(first, x, then, **options)
    alone = vb.fit(tractable.pair().load(first.pair.copy().release().state()), x, then, **options)
    assert second.pair.state().keys() == alone.pair.state().keys() and second.rows.elbo.tolist() == alone.rows.elbo.tolist()  # fmt: skip
    path = second.save(tmp_path / "fit.safetensors")
    for pair in (tractable.pair(), first.pair):
        again = vb.Fit.load(path, pair, x, estimator=then).resume(steps=3, progress=False)
        assert again.rows.elbo.tolist() == second.resume(steps=3, progress=False).rows.elbo.tolist()
    assert first.resume(steps=1, progress=False).steps == 4  # which still has its own


@dataclass(frozen=True)
class Onward(Averaging):
    """The score of each site with what follows it, of which an average is taken off: from the sites in their order, and nothing else.

    surrogate = mean_k Σ_s [log p_s + sg(Σ_{r≥s} log w_r − m) log q_s]
    """

    needs = frozenset({"terms"})
    remembers = ("weight", "whole")
    independent = True

    def estimate(self, particles):
        log_w = [(term.log_p - term.log_q).detach() for term in particles.terms]
        surrogate, left = sum(term.log_p for term in particles.terms), sum(log_w)
        usual = self.recall(whole=left.mean())["whole"]
        for place, (term, part) in enumerate(zip(particles.terms, log_w, strict=True)):
            surrogate = surrogate + (left - (usual if place == 0 else 0.0)) * term.log_q
            left = left - part
        return vb.Estimate(sum(log_w).mean(0), surrogate.mean(0))


@pytest.mark.slow
@pytest.mark.parametrize("particles", [2, 20])
def test_one_of_terms_alone_remembers_and_is_unbiased(particles):
    """Captured, one particle made many; its costs hang on the order of the sites, data after the latents before them."""
    check = vb.check_estimator(Onward(particles), ["discrete_chain", "three_bernoulli"], replicas=4000, progress=False)
    assert check.ok and all(row.judged == "yes" and row.resolution < 0.1 for row in check.rows), check.verdict()
