"""Grey pictures made black and white: once, by a draw, or anew in each epoch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import vbayes as vb


def grey(rows: int = 40) -> vb.Dataset:
    return vb.Dataset({"x": torch.rand(rows, 6, generator=torch.Generator().manual_seed(0))}, support="unit")


def pair() -> vb.Pair:
    return vb.pairs.vae(6, hidden=5, latent=2)


def test_by_a_threshold_and_by_draws():
    data = grey(2000)
    cut, drawn = data.binarized("threshold"), data.binarized("static", seed=1)
    assert torch.equal(cut.first, (data.first >= 0.5).float()) and cut.support == drawn.support == "binary"
    assert set(drawn.first.unique().tolist()) == {0.0, 1.0}
    z = (drawn.first - data.first) / (data.first * (1 - data.first)).sqrt()
    assert abs(z.mean()) < 4 / z.numel() ** 0.5  # a grey value is the chance of a 1
    assert not torch.equal(drawn.first, data.binarized("static", seed=2).first)
    assert torch.equal(drawn.first, data.binarized("static", seed=1).first) and drawn.chances is None


def test_what_is_drawn_anew_is_a_function_of_seed_and_epoch():
    data = grey().binarized("dynamic")
    first, again, second = data.in_epoch(1), data.in_epoch(1), data.in_epoch(2)
    assert torch.equal(first.first, again.first) and not torch.equal(first.first, second.first)
    some = data.rows(slice(3, 9))
    assert torch.equal(some.chances, data.chances[3:9])
    assert torch.equal(vb.Dataset.of(grey()).in_epoch(7).first, grey().first)


@pytest.mark.on_cpu
@pytest.mark.parametrize("batch_size", [None, *(pytest.param(size, marks=pytest.mark.slow) for size in (8, 12))])
@pytest.mark.parametrize("compile", [pytest.param(True, marks=pytest.mark.slow), False])
def test_each_step_sees_the_draw_of_its_epoch(batch_size, compile):
    """Against steps on one epoch's data after the other, whose rows and noise are the same."""
    data, options = grey().binarized("dynamic"), {"compile": compile, "progress": False, "seed": 4}
    fit = vb.fit(pair(), data, epochs=2, batch_size=batch_size, learning_rate=0.02, **options)
    at = vb.fit(pair(), data, steps=0, batch_size=batch_size, learning_rate=0.02, **options)
    history = []
    for epoch in range(1, 3):
        shown = replace(data.in_epoch(epoch), chances=None)
        at = replace(at, data=shown).resume(epochs=1, progress=False)
        history = [row[2] for row in at.rows]
    assert [row[2] for row in fit.rows] == pytest.approx(history, rel=1e-5)
    fixed = vb.fit(pair(), replace(data, chances=None), epochs=2, batch_size=batch_size, learning_rate=0.02, **options)
    assert fixed.rows[-1][2] != fit.rows[-1][2]


@pytest.mark.slow
def test_resuming_is_never_having_stopped():
    options = {"batch_size": 12, "progress": False, "binarize": "dynamic"}
    whole = vb.fit(pair(), grey(), steps=430, **options)
    half = vb.fit(pair(), grey(), steps=410, **options).resume(steps=20, progress=False)
    assert [row[2] for row in half.rows] == [row[2] for row in whole.rows]


@pytest.mark.slow
def test_several_starts_see_the_same_draws():
    options = {"batch_size": 12, "progress": False, "binarize": "dynamic", "compile": True, "seed": 3}
    several = vb.fit(pair(), grey(), steps=30, restarts=2, **options)
    alone = vb.fit(pair(), grey(), steps=30, **options)
    assert several.fits[0].history.elbo.tolist() == pytest.approx(alone.history.elbo.tolist(), rel=1e-5)


def test_grey_data_under_a_bernoulli_are_warned_about_and_binarised():
    with pytest.warns(UserWarning, match=r"run from .* to .* with values in between.*binarize='threshold'"):
        vb.fit(pair(), grey(), steps=1, progress=False)
    with pytest.warns(UserWarning, match="not a log-probability"):
        fit = vb.fit(pair(), grey(), steps=400, batch_size=8, progress=False, learning_rate=0.01)
    assert fit.history.elbo[:40].mean() < fit.history.elbo[-40:].mean()  # it trains all the same
    vb.fit(pair(), grey(), steps=1, progress=False, binarize="static")  # warnings are errors
    with pytest.raises(vb.errors.BadData, match=r"runs from 0\.\d+ to 2\.\d+.*divided by the largest"):
        vb.fit(pair(), 3 * grey().first[:8], steps=1, progress=False, binarize="static")
    ones = vb.Dataset.of(torch.ones(5, 6, dtype=torch.long)).binarized("dynamic")
    assert ones.first.dtype == torch.float32 and ones.in_epoch(3).first.all()
    with pytest.raises(vb.errors.BadInput, match="Wanted: 'threshold', 'static' or 'dynamic'"):
        grey().binarized("sometimes")
    with pytest.raises(vb.errors.BadPair, match="outside the support"):
        vb.fit(pair(), 255 * grey().first, steps=1, progress=False)
