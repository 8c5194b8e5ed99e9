"""How often the truth lies within two standard errors, in simulations whose truth is known; and what no standard error covers."""

from __future__ import annotations

import dataclasses
import math

import pandas as pd
import pytest
import torch

import vbayes as vb
from tests.models import binary, small_vae
from tests.quick import some_quick
from vbayes import rng
from vbayes.laboratory import moments
from vbayes.laboratory.bench import BLOCKS
from vbayes.laboratory.bias import bias
from vbayes.laboratory.oracle import labels, target
from vbayes.laboratory.replicas import Replicas
from vbayes.laboratory.variance_parts import variance_parts
from vbayes.staging import Replicated
from vbayes.summaries.heavy_tails import heavy_tailed

SIMULATED, SIZE = 400, 4
NOMINAL = 0.954
LEAST = NOMINAL - 3 * math.sqrt(NOMINAL * (1 - NOMINAL) / SIMULATED)  # three binomial errors below


def summed(draws: torch.Tensor) -> moments.Moments:
    return moments.Moments(draws.sum(1), draws.square().sum(1), draws.new_zeros(draws.shape[2]), draws.shape[1])


@pytest.mark.parametrize("size", some_quick([1, 3, 50], [3]))
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


def test_moving_baselines_are_filled_side_by_side():
    """At q = prior log w is log N(x | z, 1) for each x, whose mean and variance are known, and so are those of the moving average over draws of its own."""
    x, decay, draws = torch.tensor([-0.5, 2.0]), 0.9, 44  # after which a hundredth of the average is from before
    pair, batch = vb.pairs.normal_normal(), vb.Batch((x,))
    replicas, runs = Replicas(pair.initialise(batch), vb.Baselined(decay=decay), batch), []
    graph = replicas.program.graph
    replicas.program = dataclasses.replace(replicas.program, graph=lambda *given: runs.append(1) or graph(*given))

    def settled(count):
        replicas.settle(pair, 0, memories=count)
        found = []
        for block in range(count):
            replicas.recall(block)
            kept = {name.rsplit(".")[-1]: float(value) for name, value in replicas.program.buffers.items()}
            found.append(kept["baseline"] / kept["weight"])
        return torch.tensor(found, dtype=torch.float64)

    found = settled(2000)
    assert len(runs) == draws  # for all 2000
    mean = float((-0.5 * (math.log(2 * math.pi) + 1 + x**2)).mean())
    variance = (
        float((0.5 + x**2).sum()) / len(x) ** 2 * (1 - decay) / (1 + decay) * (1 + decay**draws) / (1 - decay**draws)
    )
    assert abs(found.mean() - mean) < 4 * math.sqrt(variance / 2000)
    squared = (found - mean).square()
    assert abs(squared.mean() - variance) < 4 * squared.std() / math.sqrt(2000)
    assert settled(3).tolist() == settled(3).tolist()


@pytest.mark.filterwarnings("ignore:Heavy tails")  # of so few draws
@pytest.mark.parametrize("verb", ["compare", "recommend", "noise_split"])
def test_in_each_block_a_moving_baseline_is_another(monkeypatch, verb):
    """What it happens to be is part of its gradients' noise: one for all draws was outside of the stated error."""
    seen, remember = [], Replicated.remember

    def spied(self, buffers):
        seen.append(tuple(map(float, buffers.values())))
        remember(self, buffers)

    monkeypatch.setattr(Replicated, "remember", spied)
    if verb == "noise_split":
        pair, x = small_vae(), binary(20)
        options = {"batch_sizes": (5,), "particles": (1,), "minibatches": BLOCKS, "draws": 2}
        vb.noise_split(pair, x, "baselined", progress=False, **options)
    else:
        pair, x = vb.pairs.normal_normal(), torch.tensor([-0.5, 2.0])
        options = {
            "compare": {"at": {"here": pair}, "replicas": 100},
            "recommend": {"particles": (1,), "noise": ("iid",), "budget": 1.0, "compile": False},
        }
        getattr(vb, verb)(pair, x, ["baselined"], progress=False, **options[verb])
    assert len(set(seen)) == BLOCKS


def test_minibatches_that_share_a_memory_are_left_out_together():
    """The noise of each draw depends on the block's chance alone, sd 1: the mean over 50 blocks is good to 1 / √50, however many minibatches are in them."""
    chance = torch.randn(BLOCKS, generator=rng.stream(0), dtype=torch.float64)
    inner = 10 + chance.repeat(4)
    parts = variance_parts(torch.zeros(4 * BLOCKS, 1, dtype=torch.float64), inner, 2, BLOCKS)
    assert parts["particle_se"] == pytest.approx(float(chance.std()) / math.sqrt(BLOCKS), rel=1e-9)
    assert variance_parts(torch.zeros(4 * BLOCKS, 1), inner, 2)["particle_se"] < 0.51 * parts["particle_se"]
