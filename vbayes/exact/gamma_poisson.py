"""The conjugate model λ ~ Gamma(a, b), T counts x ~ Poisson(λ), for each row by itself, with q(λ) = Gamma(α, β)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Gamma, kl_divergence


def posterior(x: Tensor, a: Tensor, b: Tensor) -> Gamma:
    """p(λ|x) = Gamma(a + Σx, b + T) for each row of x (N, T)."""
    return Gamma(a + x.sum(-1), b + x.shape[-1])


def log_evidence(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a ln b − ln Γ(a) + ln Γ(a + Σx) − (a + Σx) ln(b + T) − Σ ln x!: (N,) nats of x (N, T)."""
    after = posterior(x, a, b)
    shape, rate = after.concentration, after.rate
    return (
        a * torch.log(b) - torch.lgamma(a) + torch.lgamma(shape) - shape * torch.log(rate) - torch.lgamma(x + 1).sum(-1)
    )


def elbo(x: Tensor, a: Tensor, b: Tensor, q: Gamma) -> Tensor:
    """E_q[ln p(x|λ)] − KL(q ‖ Gamma(a, b)): (N,) nats of x (N, T)."""
    log_rate = torch.digamma(q.concentration) - torch.log(q.rate)
    likelihood = x.sum(-1) * log_rate - x.shape[-1] * q.mean - torch.lgamma(x + 1).sum(-1)
    return likelihood - kl_divergence(q, Gamma(a, b))
