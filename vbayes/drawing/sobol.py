"""Scrambled Sobol points as a function of tensors, so that they can be captured, replicated and compiled."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

DIMENSIONS = 21201  # number of coordinates of the Sobol sequence with known direction numbers (Joe & Kuo 2008)
BITS = 32


def sobol(kind: str, seeds: Tensor, num_points: int, first: int) -> Tensor:
    """(K, n) standard normals or uniforms: each row (n,) is distributed like independent draws, and the K rows are evenly spread.

    The digits of each coordinate of the Sobol sequence are permuted by nested random permutations (Owen 1995), which are
    approximated by a hash of its seed.

    Args:
        seeds: (n,) uniforms.
        num_points: Number of points, K.
        first: First coordinate of the sequence to use.

    References:
        Owen 1995, Randomly permuted (t, m, s)-nets; Burley 2020, Practical hash-based Owen scrambling, JCGT 9(4).
    """
    mask = 2**BITS - 1
    seed = _mixed((seeds.double() * 2**24).long() & mask)
    x = _reversed_points(num_points, first, len(seeds)).to(seeds.device)
    x = (x + seed) & mask
    for factor in (0x6C50B47C, 0xB82F1E52, 0xC7AFE638, 0x8D22F6E6):
        x = x ^ ((x * factor) & mask)
    eps = torch.finfo(seeds.dtype).eps
    u = ((_reverse(x).double() + 0.5) / 2**BITS).to(seeds.dtype).clamp(eps / 2, 1 - eps)
    return u if kind == "uniform" else math.sqrt(2) * torch.erfinv(2 * u - 1)


def _mixed(x: Tensor) -> Tensor:
    """A hash of 32 bits in which each bit depends on all (Wang's family; constants of Ettinger's search)."""
    mask = 2**BITS - 1
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & mask
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & mask
    return x ^ (x >> 16)


def _reverse(x: Tensor) -> Tensor:
    """The 32 bits in the opposite order."""
    for bits, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF)):
        x = ((x >> bits) & mask) | ((x & mask) << bits)
    return x


@functools.lru_cache(maxsize=64)
def _reversed_points(num_points: int, first: int, dimensions: int) -> Tensor:
    """(K, n) Sobol points as integers with their bits reversed; coordinates beyond the last known start again."""
    import numpy as np
    from scipy.stats import qmc

    wanted = (first + np.arange(dimensions)) % DIMENSIONS
    engine = qmc.Sobol(int(wanted.max(initial=0)) + 1, scramble=False)
    points = engine.random_base2(max(0, math.ceil(math.log2(num_points))))[:num_points, wanted]
    digits = (points * 2**BITS).astype(np.uint32)
    turned = np.zeros_like(digits)
    for bit in range(BITS):
        turned |= ((digits >> np.uint32(bit)) & np.uint32(1)) << np.uint32(BITS - 1 - bit)
    return torch.from_numpy(turned.astype(np.int64))
