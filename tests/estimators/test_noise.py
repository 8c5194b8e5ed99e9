"""Antithetic and quasi-random base noise: what it is, that it stays unbiased, and that every way of drawing agrees on it."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from scipy import stats

import vbayes as vb
from tests.models import X, mixed, small_vae
from tests.quick import some_quick
from vbayes.drawing.base_noise import contexts
from vbayes.drawing.sobol import sobol
from vbayes.staging import draw_noise, replicate, stage

pytestmark = pytest.mark.usefixtures("double")
BATCH = vb.Batch((X,))


def drawn(kind: str, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    result = []
    with vb.seeded(0):
        for together in contexts(kind, count):
            with together:
                normal = pyro.distributions.Normal(torch.zeros(3), 1.0).rsample()
                result.append((normal, torch.rand(2)))
    return result


@pytest.mark.parametrize("count", [1, 2, 5])
def test_antithetic_pairs(count):
    pairs = drawn("antithetic", count)
    assert len(pairs) == count
    for first, second in zip(pairs[0::2], pairs[1::2], strict=False):
        assert torch.equal(first[0], -second[0]) and torch.equal(first[1], 1 - second[1])
    if count == 5:
        assert not torch.equal(pairs[0][0], pairs[2][0])


@pytest.mark.parametrize("count", [2, 4, 64])
def test_a_scrambled_sobol_sequence_has_one_point_in_each_interval(count):
    """In each coordinate by itself, and in pairs of coordinates one in each elementary box of the first two."""
    seeds = torch.rand(30, 5, generator=torch.Generator().manual_seed(0))
    for row in seeds:
        points = sobol("uniform", row, count, 0)
        assert points.shape == (count, 5)
        for column in points.T:
            assert sorted((column * count).long().tolist()) == list(range(count))
        side = 2 ** (int(math.log2(count)) // 2)
        boxes = (points[:, 0] * side).long() * (count // side) + (points[:, 1] * (count // side)).long()
        assert sorted(boxes.tolist()) == list(range(count))


def test_scrambled_points_are_uniform_and_coordinates_uncorrelated():
    seeds = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(1))
    points = torch.stack([sobol("uniform", row, 2, 7)[1] for row in seeds[:4000]])
    for column in points.T:
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-3
    assert (torch.corrcoef(points.T) - torch.eye(3)).abs().max() < 5 / 4000**0.5
    normal = sobol("normal", seeds[:, 0], 1, 0)[0]
    assert stats.kstest(normal.numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("kind", ["antithetic", "sobol"])
@pytest.mark.parametrize("count", some_quick([1, 5, 8], [5]))
@pytest.mark.parametrize("name", ["pathwise", "stl", "adaptive_stl", "score", "iwae"])
def test_the_mean_stays_and_the_variance_falls(kind, count, name):
    """Iwae's mean may move: its bound is another one for particles that hang together."""
    pair = vb.pairs.normal_normal().initialise(BATCH)
    pair.load({"loc": torch.tensor([0.2, 0.4]), "scale": torch.tensor(-0.3)})
    with pair.scope():
        leaves = [pair.leaves[k] for k in pair.parameters]
        truth = torch.cat([g.reshape(-1) for g in torch.autograd.grad(pair.exact.elbo(X), leaves)])
    spread = {}
    for noise in ("iid", kind):
        estimator = vb.ESTIMATORS[name](count, noise=noise)
        program = (
            stage(pair, vb.estimators.resolve(estimator), BATCH)
            if name != "adaptive_stl"
            else remembered(pair, estimator)
        )
        with vb.seeded(3):
            gradients, _ = replicate(program, pair.parameters, draw_noise(program.sizes, 20_000, X), BATCH.args)
        flat = torch.cat([g.reshape(20_000, -1) for g in gradients.values()], 1)
        spread[noise] = flat.var(0)
        if name != "iwae":
            assert ((flat.mean(0) - truth) / (flat.std(0) / 20_000**0.5 + 1e-12)).abs().max() < 4.5
    if count == 8 and name in ("pathwise", "stl"):
        # Antithetic pairs take out what is odd in ε: all of the noise in the locations' gradient, none of that in the scale's.
        which = slice(0, 2) if kind == "antithetic" else slice(None)
        assert spread[kind][which].sum() < 0.8 * spread["iid"][which].sum()
    if count == 1:
        torch.testing.assert_close(spread[kind], spread["iid"], rtol=0.06, atol=0)


def remembered(pair, estimator):
    from vbayes.estimators.remembering import with_memory

    pair = pair.copy()
    return stage(pair, with_memory(estimator, pair, BATCH), BATCH)


@pytest.mark.parametrize("kind", ["antithetic", "sobol"])
@pytest.mark.parametrize("make", [vb.pairs.normal_normal, mixed])
def test_a_fit_by_pyro_takes_it_too(kind, make):
    fit = vb.fit(make(), X, vb.Trace(3, noise=kind), steps=20, compile=False, progress=False)
    assert fit.steps == 20 and fit.history.elbo.notna().all()


@pytest.mark.slow
def test_a_compiled_fit_takes_it():
    x = torch.bernoulli(torch.full((20, 6), 0.5), generator=torch.Generator().manual_seed(0))
    for kind in ("antithetic", "sobol"):
        fit = vb.fit(small_vae(), x, vb.AnalyticKL(4, noise=kind), steps=50, compile=True, progress=False)
        assert fit.history.elbo.iloc[-1] > fit.history.elbo.iloc[0]


@pytest.mark.parametrize("name", [name for name, kind in vb.ESTIMATORS.items() if kind.independent])
def test_estimators_that_need_independent_particles_say_so(name):
    with pytest.raises(vb.errors.BadInput, match="independent particles"):
        vb.ESTIMATORS[name](noise="sobol")


def test_an_unknown_kind_of_noise():
    with pytest.raises(vb.errors.BadInput, match="'iid', 'antithetic' or 'sobol'"):
        vb.Pathwise(noise="halton")
