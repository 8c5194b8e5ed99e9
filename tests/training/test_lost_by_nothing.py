"""What a callback or a screen does costs nobody the fit, and each start has a memory of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from vbayes.estimators.remembering import remembered
from vbayes.progress import bar


def model(x):
    m = pyro.sample("m", dist.Normal(0.0, 3.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(m, 1.0), obs=x)


X = torch.tensor([1.0, 2.0, 4.0])
QUICK = {"compile": False, "progress": False}


def test_an_error_like_a_fits_own_is_the_callbacks():
    def fail(state):
        if state.step >= 3:
            raise vb.errors.NonFinite("of a fit inside", step=1, sites=(), fit=None)

    with pytest.raises(vb.errors.NonFinite, match="of a fit inside") as caught:
        vb.fit(vb.Pair(model, AutoNormal(model)), X, steps=9, restarts=2, callbacks=[vb.Every(fail, steps=1)], **QUICK)
    assert len(caught.value.fit.fits) == 1


def test_an_error_that_takes_nothing_is_raised_all_the_same():
    @dataclass(frozen=True)
    class Mine(Exception):
        text: str

    def fail(state):
        raise Mine("mine")

    with pytest.raises(Mine):
        vb.fit(vb.Pair(model, AutoNormal(model)), X, steps=9, callbacks=[vb.Every(fail, steps=1)], **QUICK)


def test_a_screen_on_a_full_disk(monkeypatch):
    class Full:
        first = 0.0

        def draw(self, phase, last):
            raise OSError(28, "No space left on device")

        close = draw

    monkeypatch.setattr(sys.modules["vbayes.progress.bar"], "_view", Full)
    fit = vb.fit(vb.Pair(model, AutoNormal(model)), X, steps=5, compile=False)
    assert fit.steps == 5 and not sys.modules["vbayes.progress.bar"]._showing.get()
    with pytest.raises(RuntimeError, match="mine"), bar("work", 3, show=True):
        raise RuntimeError("mine")
    assert not sys.modules["vbayes.progress.bar"]._showing.get()


def test_each_start_has_a_memory_of_its_own():
    fits = vb.fit(vb.Pair(model, AutoNormal(model)), X, vb.FittedQuadratic(), restarts=3, steps=0, **QUICK).fits
    levels = [remembered(fit.estimator, fit.pair) for fit in fits]
    alone = vb.fit(fits[1].pair, X, vb.FittedQuadratic(), steps=0, **QUICK)
    assert len({str(level) for level in levels}) == 3
    assert str(levels[1]) == str(remembered(alone.estimator, alone.pair))


@pytest.mark.parametrize("estimator", ["beta(beta=2)", "stl(num_particles=2, noise='antithetic')"])
def test_a_file_names_its_estimator_with_its_settings(estimator, tmp_path):
    pair = vb.pairs.normal_normal()
    fit = vb.fit(pair, vb.data.normal_normal(), estimator, steps=2, **QUICK)
    again = vb.Fit.load(fit.save(tmp_path / "fit.safetensors"), pair, fit.data)
    assert again.estimator == fit.estimator
