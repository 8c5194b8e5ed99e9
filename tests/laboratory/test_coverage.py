"""How often the truth lies within two standard errors, in simulations whose truth is known; and what no standard error covers."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

import vbayes as vb
from vbayes import rng
from vbayes.laboratory import moments
from vbayes.laboratory.bench import BLOCKS
from vbayes.laboratory.bias import bias
from vbayes.laboratory.oracle import labels, target
from vbayes.laboratory.replicas import Replicas
from vbayes.summaries.heavy_tails import heavy_tailed

SIMULATED, SIZE = 400, 4
NOMINAL = 0.954
LEAST = NOMINAL - 3 * math.sqrt(NOMINAL * (1 - NOMINAL) / SIMULATED)  # three binomial errors below


def summed(draws: torch.Tensor) -> moments.Moments:
    return moments.Moments(draws.sum(1), draws.square().sum(1), draws.new_zeros(draws.shape[2]), draws.shape[1])


@pytest.mark.parametrize("size", [1, 3, 50])
@pytest.mark.parametrize("length", [0.0, 0.3, 1.0, 2.0, 10.0])
def test_lengths_near_zero_are_covered(size, length):
    """400 comparisons of draws whose mean has `length` standard errors in each coordinate. Where the estimate was clamped to 0 its error was 0,
    and the truth was missed up to every other time.
    """
    mean = torch.full((size,), length / math.sqrt(BLOCKS * SIZE), dtype=torch.float64)
    truth, none = float(mean.norm()), torch.zeros_like(mean)
    hits = {"norm": 0, "snr": 0, "bias": 0, "bias by draws": 0}
    for number in range(SIMULATED):
        generator = rng.stream(12, number)
        ours, theirs = torch.randn(2, BLOCKS, SIZE, size, generator=generator, dtype=torch.float64)
        m, oracle = summed(ours + mean), summed(theirs)
        values = {
            "norm": (*moments.mean_norm(m), truth),
            "snr": (*moments.snr(m), truth / math.sqrt(size)),
            **{
                name: (found.norm, found.norm_se, truth)
                for name, found in {"bias": bias(m, none), "bias by draws": bias(m, oracle)}.items()
            },
        }
        for name, (value, se, right) in values.items():
            hits[name] += abs(value - right) <= 2 * se
            assert se > 0
    assert min(hits.values()) >= LEAST * SIMULATED, hits


def test_without_noise_there_is_no_error():
    m = summed(torch.ones(BLOCKS, SIZE, 2, dtype=torch.float64))
    assert moments.mean_norm(m) == (pytest.approx(math.sqrt(2)), 0.0)
    assert moments.mean_norm(summed(torch.zeros(BLOCKS, SIZE, 2, dtype=torch.float64))) == (0.0, 0.0)


def test_the_heaviest_block():
    """One draw of a thousand in a sample of ones carries what is to be computed by hand."""
    draws = torch.ones(BLOCKS, 20, 1, dtype=torch.float64)
    draws[::2] = -1.0
    assert moments.heaviest_block(summed(draws)) == pytest.approx(1 / BLOCKS, rel=1e-6)
    draws[7, 3] = 100.0
    mean = float(draws.mean())
    right = float((draws[7] - mean).square().sum() / (draws - mean).square().sum())
    assert right > 0.9 and moments.heaviest_block(summed(draws)) == pytest.approx(right)


def test_heavy_tails_are_said():
    """A variance of rounding has no tails."""
    rows = [
        {"estimator": "score", "variance": 2.0, "mean_norm": 1.0, "heaviest_block": 0.73},
        {"estimator": "stl", "variance": 1e-14, "mean_norm": 1.0, "heaviest_block": 0.9},
        {"estimator": "pathwise", "variance": 1.0, "mean_norm": 1.0, "heaviest_block": 0.2},
    ]
    words = heavy_tailed(pd.DataFrame(rows))
    assert "up to 73% of the variance of score. " in words and "stl" not in words
    assert heavy_tailed(pd.DataFrame(rows[1:])) == "" == heavy_tailed(pd.DataFrame(rows).drop(columns="heaviest_block"))


@pytest.mark.on_cpu
def test_compare_warns_of_heavy_tails():
    """The score function where q lies far from the posterior: Pareto-like weights, of which one block has nearly all."""
    import pyro
    import pyro.distributions as dist

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(torch.exp(4 * z), 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("location", torch.tensor(0.0)), 1.0))

    pair = vb.Pair(model, guide, name="far")
    with pytest.warns(UserWarning, match="Heavy tails: one block of draws carries up to .* of the variance of score"):
        found = vb.compare(pair, torch.tensor([0.5]), ["score"], at={"here": pair}, replicas=1000, progress=False)
    assert "Heavy tails" in found.verdict() and found.to_dataframe().heaviest_block.max() > 0.5


class Rounded(vb.IWAE):
    """Another's bound, in other words: it loses some digits."""

    shift = 2e-9

    def bound_of(self, log_w):
        return super().bound_of(log_w) + self.shift


def test_a_bound_is_told_by_more_than_rounding():
    class Other(Rounded):
        shift = 1e-3

    assert target(Rounded(2)) == target(vb.IWAE(2)) != target(Other(2))
    named = {"iwae": vb.IWAE(2), "rounded": Rounded(2), "other": Other(2)}
    words = labels(named)
    assert words["iwae"] == words["rounded"] != words["other"]
    assert len({target(method) for method in named.values()}) == 2


def test_a_moving_baseline_varies_over_the_blocks():
    """Its gradients' noise given one baseline is not all: in each block of draws the baseline is another."""
    pair, batch = vb.pairs.normal_normal(), vb.Batch((torch.tensor([-0.5, 2.0]),))
    replicas = Replicas(pair.initialise(batch), vb.Baselined(), batch)

    def baseline():
        (value,) = (value for name, value in replicas.program.buffers.items() if name.endswith("baseline"))
        return float(value)

    replicas.settle(pair, 0)
    seen = [baseline()]
    for block in range(1, 40):
        replicas.refresh(pair, block)
        seen.append(baseline())
    values = torch.tensor(seen)
    assert len(set(seen)) == 40
    lagged = float(torch.corrcoef(torch.stack([values[1:], values[:-1]]))[0, 1])
    assert abs(lagged) < 3 / math.sqrt(39)  # of what it was in the block before nothing to speak of is left
    replicas.settle(pair, 0)
    assert baseline() == seen[0]
