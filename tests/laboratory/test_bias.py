"""Bias, its error and its resolution, and the directional signal-to-noise ratio, on draws whose law is known."""

from __future__ import annotations

import math

import pytest
import torch

import vbayes as vb
from vbayes.laboratory import moments
from vbayes.laboratory.bias import SEEN, bias
from vbayes.laboratory.directions import KEPT, Directions

BLOCKS, SIZE = 50, 20


def drawn(mean: torch.Tensor, sd: float) -> moments.Moments:
    blocks = ([mean + sd * torch.randn(SIZE, len(mean), dtype=torch.float64)] for _ in range(BLOCKS))
    return moments.collect(blocks, mean, SIZE)


@pytest.mark.parametrize("size", [1, 3, 200])
def test_a_bias_of_the_resolutions_size_is_seen_on_average(size):
    """And half of it is not, most of the time; without bias the norm is near zero for its error."""
    right = torch.ones(size, dtype=torch.float64)
    unit = right / right.norm()
    with vb.seeded(0):
        resolution = bias(drawn(right, 2.0), right).resolution
        seen = torch.tensor([bias(drawn(right + resolution * unit, 2.0), right).z for _ in range(100)])
        half = torch.tensor([bias(drawn(right + 0.5 * resolution * unit, 2.0), right).z for _ in range(100)])
    assert float(seen.abs().mean()) == pytest.approx(SEEN, rel=0.15)
    assert float(half.abs().mean()) < 0.65 * SEEN


@pytest.mark.parametrize(("size", "noisy"), [(1, False), (5, False), (5, True)])
def test_draws_without_bias_are_called_biased_as_often_as_stated(size, noisy):
    """z is standard normal whatever the number of components, also if a noisy oracle is the reference: of 2000 estimates as many are off by more than 2 as of normal numbers, or fewer."""
    right, cases = torch.zeros(size, dtype=torch.float64), 2000

    def made() -> moments.Moments:
        blocks = torch.randn(BLOCKS, 2, size, dtype=torch.float64)
        return moments.Moments(blocks.sum(1), blocks.square().sum(1), right, 2)

    with vb.seeded(0):
        z = torch.tensor([bias(made(), made() if noisy else right).z for _ in range(cases)]).abs()
    expected = math.erfc(2**0.5)
    error = 4 * (expected * (1 - expected) / cases) ** 0.5
    share = float((z > 2).double().mean())
    assert share < expected + error and (noisy or share > expected - error)
    assert float((z > SEEN).double().mean()) <= 1 / cases


def test_the_size_of_a_bias_and_its_error():
    right, away = torch.zeros(5, dtype=torch.float64), torch.tensor([0.3, 0.0, -0.4, 0.0, 0.0], dtype=torch.float64)
    with vb.seeded(0):
        found = [bias(drawn(away, 1.0), drawn(right, 1.0)) for _ in range(100)]
    norms, ses = torch.tensor([f.norm for f in found]), torch.tensor([f.norm_se for f in found])
    assert abs(float(norms.mean()) - 0.5) < 4 * float(norms.std()) / 10
    assert float(ses.mean()) == pytest.approx(float(norms.std()), rel=0.25)


def test_a_noisy_oracle_is_told():
    right = torch.zeros(4, dtype=torch.float64)
    with vb.seeded(0):
        quiet, noisy = (bias(drawn(right, 1.0), drawn(right, sd)) for sd in (0.1, 30.0))
    assert quiet.oracle_share < 0.1 < 0.9 < noisy.oracle_share
    assert noisy.resolution > 10 * quiet.resolution and abs(noisy.z) < 4


def test_dsnr_of_known_draws():
    """g = 3 u + ε in four dimensions: E[|3 + n| / χ₃] = E|3 + n| · E[1/χ₃], with E[1/χ₃] = √(2/π)."""
    truth = 3.0 * torch.tensor([0.6, 0.0, 0.8, 0.0], dtype=torch.float64)
    seen = Directions(truth, {"all": torch.arange(4), "two": torch.arange(2)}, BLOCKS)
    with vb.seeded(0):
        blocks = ([truth + torch.randn(2000, 4, dtype=torch.float64)] for _ in range(BLOCKS))
        m = moments.collect(blocks, truth, 2000, seen)
    folded = 3.0 * math.erf(3.0 / math.sqrt(2)) + math.sqrt(2 / math.pi) * math.exp(-4.5)
    dsnr, se = seen.dsnr("all")
    assert abs(dsnr - folded * math.sqrt(2 / math.pi)) < 4 * se < 0.1
    assert abs(dsnr - moments.snr(m)[0]) > 10 * se  # which is another thing: 3 / 2
    assert math.isnan(seen.dsnr("two")[0])
    along = torch.tensor(seen.along("all"))
    assert len(along) == KEPT and abs(float(along.mean()) - 3.0) < 4 / math.sqrt(KEPT)
