"""Normals from scores at draws: the equations that the closed forms solve, and the posterior that they come to."""

from __future__ import annotations

import pytest
import torch

from vbayes.updates import BatchAndMatch, ScoreMatching
from vbayes.updates.batch_and_match import lower_triangle

D = 4


def numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ROOT = lower_triangle(numbers(D, 2 * D, seed=0))
MEAN, PRECISION = numbers(D, seed=1), torch.cholesky_inverse(lower_triangle(numbers(D, 2 * D, seed=2)))


def scores(draws: torch.Tensor) -> torch.Tensor:
    """Of a normal."""
    return (MEAN - draws) @ PRECISION


def test_batch_and_match_solves_its_equation():
    """Σ U Σ + Σ = V, and the mean's."""
    mean, draws, step = numbers(D, seed=3), numbers(6, D, seed=4), 3
    g = numbers(6, D, seed=5)
    after, root = BatchAndMatch(6).match(mean, ROOT, draws, g, step)
    rate = 6 * D / step
    middle, slope = draws.mean(0), g.mean(0)
    share, off = rate / (1 + rate), mean - draws.mean(0)
    u = rate * torch.cov(g.T, correction=0) + share * torch.outer(slope, slope)
    v = ROOT @ ROOT.T + rate * torch.cov(draws.T, correction=0) + share * torch.outer(off, off)
    covariance = root @ root.T
    torch.testing.assert_close(covariance @ u @ covariance + covariance, v)
    torch.testing.assert_close(after, (mean + rate * (middle + covariance @ slope)) / (1 + rate))
    assert torch.equal(root, root.tril()) and root.diagonal().min() > 0


def test_score_matching_has_the_right_score_at_its_draw():
    mean, draws = numbers(D, seed=3), numbers(1, D, seed=4)
    g = numbers(1, D, seed=5)
    after, root = ScoreMatching(1).match(mean, ROOT, draws, g, 1)
    torch.testing.assert_close(torch.cholesky_solve((after - draws[0])[:, None], root)[:, 0], g[0])


@pytest.mark.parametrize(("update", "steps"), [(BatchAndMatch(16), 30), (ScoreMatching(8), 150)], ids=["bam", "gsm"])
def test_a_normal_posterior_is_where_they_end(update, steps):
    """And stay: with the right scores everywhere there is nothing to mend."""
    mean, root = torch.zeros(D, dtype=torch.float64), torch.eye(D, dtype=torch.float64)
    for step in range(1, steps + 1):
        draws = mean + numbers(update.draws, D, seed=step) @ root.T
        mean, root = update.match(mean, root, draws, scores(draws), step)
    torch.testing.assert_close(mean, MEAN, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cholesky_inverse(root), PRECISION, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("update", [BatchAndMatch(3), ScoreMatching(3)], ids=["bam", "gsm"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_covariances_are_positive_whatever_the_scores(update, scale):
    mean, root = numbers(D, seed=3), ROOT
    for step in range(1, 20):
        draws = mean + numbers(3, D, seed=step) @ root.T
        mean, root = update.match(mean, root, draws, scale * numbers(3, D, seed=step + 50), step)
        assert torch.isfinite(mean).all() and torch.equal(root, root.tril()) and root.diagonal().min() > 0
