"""The parts of a gradient's variance, estimated from draws, and a formula for them."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor


def variance_parts(means: Tensor, inner: Tensor, draws: int, blocks: int | None = None) -> dict[str, float]:
    """Both parts of the variance of a gradient and their jackknife errors, by analysis of variance.

    Args:
        means: (B, P) mean of each minibatch's draws.
        inner: (B,) trace of the covariance of each minibatch's draws.
        draws: Number of draws for each minibatch.
        blocks: Minibatch i belongs to block i mod `blocks`, whose minibatches share some randomness, and are left out together; None: each is its own block.

    Returns:
        `minibatch`, `particle` and `total` in nats², each with `…_se`; the contribution of the draws to the variance of the means is subtracted.
    """
    count = min(blocks or len(means), len(means))

    def parts(keep: Tensor) -> tuple[float, float]:
        within = float(inner[keep].mean())
        return float(means[keep].var(0).sum()) - within / draws, within

    every = torch.ones(len(means), dtype=torch.bool, device=means.device)
    minibatch, particle = parts(every)
    without = []
    for left in range(count):
        keep = every.clone()
        keep[left::count] = False
        without.append(parts(keep))
    spread = torch.tensor(without, dtype=torch.float64, device="cpu")
    both = torch.cat([spread, spread.sum(1, keepdim=True)], 1)
    se = ((count - 1) / count * (both - both.mean(0)).square().sum(0)).sqrt().tolist()
    return {
        "minibatch": minibatch, "minibatch_se": se[0], "particle": particle, "particle_se": se[1],
        "total": minibatch + particle, "total_se": se[2],
    }  # fmt: skip


def fitted_law(rows: list[dict[str, float]], total: int) -> tuple[float, float, float]:
    """S, a and b of `NoiseSplit` by least squares on the measured parts, weighted by their errors; none is negative.

    Args:
        rows: Rows as in `NoiseSplit.table`.
        total: N, rows of the data.
    """
    table = pd.DataFrame(rows)
    x, weight = 1 / table.batch_size - 1 / total, 1 / table.minibatch_se.clip(lower=1e-300) ** 2
    between = max(0.0, float((weight * x * table.minibatch).sum() / (weight * x**2).sum()))
    weight = 1 / table.particle_se.clip(lower=1e-300) ** 2
    local, shared = 1 / (table.batch_size * table.particles), 1 / table.particles
    best, least = (0.0, 0.0), math.inf
    for which in ((True, True), (True, False), (False, True)):  # the best solution without a negative part
        design = torch.tensor(
            [[a * which[0], b * which[1]] for a, b in zip(local, shared, strict=True)],
            dtype=torch.float64,
            device="cpu",
        )
        scale = torch.tensor((weight / weight.max()).to_numpy(), dtype=torch.float64, device="cpu").sqrt()[:, None]
        right = torch.tensor(table.particle.to_numpy(), dtype=torch.float64, device="cpu")[:, None] * scale
        # With batches of a single size, a and b can't be separated: their columns differ by rounding, 1e−16; with two sizes, by up to 1 over the sizes.
        found = torch.linalg.lstsq(design * scale, right, rcond=1e-12, driver="gelsd").solution
        misfit = float((design * scale @ found - right).square().sum())
        better = misfit < least * (1 - 1e-9) - 1e-24 * float(right.square().sum())  # beyond rounding
        if float(found.min()) >= 0 and better:
            best, least = (float(found[0]), float(found[1])), misfit
    return between, *best
