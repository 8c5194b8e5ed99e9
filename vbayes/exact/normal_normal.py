"""The conjugate model z ~ N(0, 1), x ~ N(z, 1), for each datum by itself, with q(z) = N(loc, scale²)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def elbo(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """E_q[ln p(x, z) − ln q(z)], summed over data.

    Args:
        x: (N,) data.
        loc, scale: Of q; broadcastable to (N,).

    Returns:
        () nats.
    """
    second = loc**2 + scale**2  # E_q[z²]
    log_joint = -math.log(2 * math.pi) - 0.5 * (x**2 - 2 * x * loc + 2 * second)
    entropy = 0.5 * math.log(2 * math.pi * math.e) + scale.log()
    return (log_joint + entropy).sum()


def log_evidence(x: Tensor) -> Tensor:
    """ln p(x) with x ~ N(0, 2), summed over data: () nats."""
    return (-0.5 * (math.log(2 * math.pi * 2) + x**2 / 2)).sum()


def posterior(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of p(z|x) = N(x/2, 1/2), each (N,)."""
    return x / 2, torch.full_like(x, math.sqrt(0.5))


def kl(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """KL(q(z) ‖ p(z|x)), summed over data: () nats. With it, ln p(x) = ELBO + KL."""
    mean, sd = posterior(x)
    return (torch.log(sd / scale) + (scale**2 + (loc - mean) ** 2) / (2 * sd**2) - 0.5).sum()
