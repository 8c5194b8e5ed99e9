"""The conjugate model θ ~ Beta(a, b), T tosses x ~ Bernoulli(θ), for each row by itself, with q(θ) = Beta(α, β)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Beta, kl_divergence


def posterior(x: Tensor, a: Tensor, b: Tensor) -> Beta:
    """p(θ|x) = Beta(a + heads, b + tails) for each row of x (N, T)."""
    heads = x.sum(-1)
    return Beta(a + heads, b + x.shape[-1] - heads)


def log_evidence(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """ln B(a + heads, b + tails) − ln B(a, b), for the tosses in their order: (N,) nats of x (N, T)."""
    after = posterior(x, a, b)
    return _log_beta(after.concentration1, after.concentration0) - _log_beta(a, b)


def elbo(x: Tensor, a: Tensor, b: Tensor, q: Beta) -> Tensor:
    """E_q[ln p(x|θ)] − KL(q ‖ Beta(a, b)): (N,) nats of x (N, T)."""
    heads = x.sum(-1)
    both = torch.digamma(q.concentration1 + q.concentration0)
    log_head, log_tail = torch.digamma(q.concentration1) - both, torch.digamma(q.concentration0) - both
    return heads * log_head + (x.shape[-1] - heads) * log_tail - kl_divergence(q, Beta(a, b))


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
