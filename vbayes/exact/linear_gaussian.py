"""Linear-Gaussian models: z ~ N(m, S), x ~ N(W z + b, R), for each datum by itself, with q(z) Gaussian.

References:
    Bishop 2006, Pattern recognition and machine learning, eqs. 2.113 to 2.117, and section 10.1.2 for the factored q.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence


@dataclass(frozen=True)
class LinearGaussian:
    """z ~ N(mean, covariance) of L dimensions, x ~ N(weight z + offset, noise) of D.

    Attributes:
        mean: (L,) m.
        covariance: (L, L) S.
        weight: (D, L) W.
        offset: (D,) b.
        noise: (D, D) R.
    """

    mean: Tensor
    covariance: Tensor
    weight: Tensor
    offset: Tensor
    noise: Tensor

    def log_evidence(self, x: Tensor) -> Tensor:
        """(N,) nats of x (N, D): x ~ N(W m + b, W S Wᵀ + R)."""
        spread = self.weight @ self.covariance @ self.weight.T + self.noise
        return MultivariateNormal(self.weight @ self.mean + self.offset, spread).log_prob(x)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z|x) for x (N, D): means (N, L), one covariance for all."""
        precision = torch.linalg.inv(self.covariance) + self.weight.T @ torch.linalg.solve(self.noise, self.weight)
        pull = torch.linalg.solve(self.noise, (x - self.offset).T).T @ self.weight
        pull = pull + torch.linalg.solve(self.covariance, self.mean)
        return MultivariateNormal(torch.linalg.solve(precision, pull.T).T, precision_matrix=precision)

    def elbo(self, x: Tensor, q: MultivariateNormal) -> Tensor:
        """(N,) nats of x (N, D) under q(z): E_q[ln p(x|z)] − KL(q ‖ N(m, S))."""
        # E_q[(x − Wz − b)ᵀ R⁻¹ (x − Wz − b)]: at q's mean, and what its covariance adds.
        at_mean = MultivariateNormal(q.mean @ self.weight.T + self.offset, self.noise).log_prob(x)
        metric = self.weight.T @ torch.linalg.solve(self.noise, self.weight)
        added = -0.5 * (metric * q.covariance_matrix).sum((-2, -1))
        return at_mean + added - kl_divergence(q, MultivariateNormal(self.mean, self.covariance))


def mean_field(precision: Tensor) -> tuple[Tensor, Tensor]:
    """The best factored Gaussian for a Gaussian: its mean is exact, its variances are too small.

    Args:
        precision: (L, L) Λ of the Gaussian.

    Returns:
        (L,) the variances 1/Λᵢᵢ, and () the KL(q ‖ p) that is left, ½(Σ ln Λᵢᵢ − ln det Λ), in nats.
    """
    diagonal = precision.diagonal()
    return 1 / diagonal, 0.5 * (diagonal.log().sum() - torch.logdet(precision))
