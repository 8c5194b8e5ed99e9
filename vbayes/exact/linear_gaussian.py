"""Linear-Gaussian models: z ~ N(m, S), x ~ N(W z + b, R), for each datum by itself, with q(z) Gaussian.

All of it goes through L × L matrices (Woodbury's identity), so with diagonal noise many features cost little: N D L + D L².

References:
    Bishop 2006, Pattern recognition and machine learning, eqs. 2.113 to 2.117, and section 10.1.2 for the factored q.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from ..errors import BadInput
from .degenerate import require_positive_definite


@dataclass(frozen=True)
class LinearGaussian:
    """z ~ N(mean, covariance) of L dimensions, x ~ N(weight z + offset, noise) of D.

    Several models at once: all fields, x and q then have the same leading dimensions *B.

    Attributes:
        mean: (*B, L) m.
        covariance: (*B, L, L) S. A singular one has an evidence, but no density of z.
        weight: (*B, D, L) W.
        offset: (*B, D) b.
        noise: (*B, D, D) R, or (*B, D) its diagonal, if it has nothing else; positive definite.
    """

    mean: Tensor
    covariance: Tensor
    weight: Tensor
    offset: Tensor
    noise: Tensor

    def log_evidence(self, x: Tensor) -> Tensor:
        """(*B, N) nats of x (*B, N, D): x ~ N(W m + b, W S Wᵀ + R).

        Raises:
            BadInput: The noise is not positive definite.
        """
        self._require_noise()
        pull, shift, gain = self._pull(x)
        # (x − Wm − b)ᵀ (W S Wᵀ + R)⁻¹ (x − Wm − b) = rᵀR⁻¹r + pullᵀ S pull, with r what the posterior mean leaves: both positive,
        # so that little noise cancels nothing.
        left = x - self._mean_given(self.mean.unsqueeze(-2) + shift)
        squares = (left * self._over_noise(left)).sum(-1) + (pull * shift).sum(-1)
        log_det = self._noise_log_det() + torch.linalg.slogdet(gain).logabsdet
        return -0.5 * (x.shape[-1] * math.log(2 * math.pi) + log_det.unsqueeze(-1) + squares)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z|x) for x (*B, N, D): means (*B, N, L), one covariance for all N.

        Raises:
            BadInput: The noise or the prior's covariance is not positive definite.
        """
        self._require_noise()
        require_positive_definite(self.covariance, "prior's covariance")  # if it is singular, so is the posterior's
        _, shift, gain = self._pull(x)
        covariance = torch.linalg.solve(gain, self.covariance, left=False)  # S (I + G S)⁻¹
        # Symmetric up to rounding.
        covariance = 0.5 * (covariance + covariance.mT)
        return _gaussian(self.mean.unsqueeze(-2) + shift, covariance.unsqueeze(-3), "posterior's covariance")

    def elbo(self, x: Tensor, q: MultivariateNormal) -> Tensor:
        """(*B, N) nats of x (*B, N, D) under q(z) of batch shape (*B, N): E_q[ln p(x|z)] − KL(q ‖ N(m, S)).

        Raises:
            BadInput: The noise or the prior's covariance is not positive definite.
        """
        self._require_noise()
        # E_q[(x − Wz − b)ᵀ R⁻¹ (x − Wz − b)]: at q's mean, and what its covariance adds.
        left = x - self._mean_given(q.mean)
        squares = (left * self._over_noise(left)).sum(-1)
        squares = squares + (self._metric().unsqueeze(-3) * q.covariance_matrix).sum((-2, -1))
        log_likelihood = -0.5 * (x.shape[-1] * math.log(2 * math.pi) + self._noise_log_det().unsqueeze(-1) + squares)
        prior = _gaussian(self.mean.unsqueeze(-2), self.covariance.unsqueeze(-3), "prior's covariance")
        return log_likelihood - kl_divergence(q, prior)

    def _mean_given(self, z: Tensor) -> Tensor:
        """(*B, N, D) W z + b for z (*B, N, L)."""
        return z @ self.weight.mT + self.offset.unsqueeze(-2)

    def _pull(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(I + G S)⁻¹ WᵀR⁻¹(x − Wm − b) (*B, N, L); S times that, by which the posterior mean is off m; I + G S, with G = WᵀR⁻¹W."""
        eye = torch.eye(self.covariance.shape[-1], dtype=x.dtype, device=x.device)
        gain = eye + self._metric() @ self.covariance
        residual = x - self._mean_given(self.mean.unsqueeze(-2))
        pull = torch.linalg.solve(gain, (self._over_noise(residual) @ self.weight).mT).mT
        return pull, pull @ self.covariance, gain

    def _metric(self) -> Tensor:
        """(*B, L, L) WᵀR⁻¹W."""
        return self._over_noise(self.weight.mT) @ self.weight

    @property
    def _diagonal(self) -> bool:
        return self.noise.dim() == self.offset.dim()

    def _over_noise(self, rows: Tensor) -> Tensor:
        """(*B, M, D) each row times R⁻¹."""
        if self._diagonal:
            return rows / self.noise.unsqueeze(-2)
        return torch.cholesky_solve(rows.mT, torch.linalg.cholesky(self.noise)).mT

    def _noise_log_det(self) -> Tensor:
        """(*B) ln det R."""
        if self._diagonal:
            return self.noise.log().sum(-1)
        return 2 * torch.linalg.cholesky(self.noise).diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def _require_noise(self) -> None:
        if not self._diagonal:
            require_positive_definite(self.noise, "noise")
        elif not (self.noise > 0).all():
            raise BadInput(
                f"The smallest variance of the noise is {float(self.noise.detach().min()):.3g}, so x has no density given z. Wanted: "
                "variances above 0. Leave out constant features, or add a little noise."
            )


def _gaussian(mean: Tensor, covariance: Tensor, what: str) -> MultivariateNormal:
    require_positive_definite(covariance, what)
    return MultivariateNormal(mean, scale_tril=torch.linalg.cholesky(covariance))


def mean_field(precision: Tensor) -> tuple[Tensor, Tensor]:
    """The best factored Gaussian for a Gaussian: its mean is exact, its variances are too small.

    Args:
        precision: (L, L) Λ of the Gaussian.

    Returns:
        (L,) the variances 1/Λᵢᵢ, and () the KL(q ‖ p) that is left, ½(Σ ln Λᵢᵢ − ln det Λ), in nats.
    """
    diagonal = precision.diagonal()
    return 1 / diagonal, 0.5 * (diagonal.log().sum() - torch.logdet(precision))
