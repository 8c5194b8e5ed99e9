"""A correlated Gaussian, approximated by one without correlations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...arguments.takes import takes
from ...errors import BadInput
from ..degenerate import positive_definite
from ..linear_gaussian import mean_field


@takes()
@dataclass(frozen=True)
class FactoredGaussian:
    """p(z) = N(mean, precision⁻¹), q(z) = Π_i N(m_i, 1/Λᵢᵢ).

    The variances are those of z_i given all the others, and so too small; only the means are iterated (Bishop 2006, eqs. 10.12 to 10.15).

    Attributes:
        mean: (L,) μ.
        precision: (L, L) Λ, positive definite.

    Raises:
        BadInput: Λ is not a precision matrix.
    """

    mean: Tensor
    precision: Tensor

    def __post_init__(self) -> None:
        if self.mean.dim() != 1:
            raise BadInput(f"mean has shape {tuple(self.mean.shape)}. Wanted: (L,), a number for each latent.")
        size = len(self.mean)
        square = self.precision.shape == (size, size)
        if not (square and torch.allclose(self.precision, self.precision.mT) and positive_definite(self.precision)):
            raise BadInput(
                f"precision={self.precision.tolist()} is not valid for a mean of size {size}. Wanted: a symmetric positive definite matrix."
            )

    @property
    def variances(self) -> Tensor:
        """(L,) of q: 1/Λᵢᵢ."""
        return mean_field(self.precision)[0]

    def start(self, seed: int) -> Tensor:
        """(L,) the means of q, anywhere."""
        generator = torch.Generator("cpu").manual_seed(seed)  # so that a seed gives the same start everywhere
        drawn = torch.randn(len(self.mean), generator=generator, dtype=self.mean.dtype, device="cpu")
        return drawn.to(self.mean.device)

    def sweep(self, q: Tensor) -> Tensor:
        """Each mean in turn: m_i = μ_i − Σ_{j≠i} Λᵢⱼ (m_j − μ_j) / Λᵢᵢ."""
        found = q.clone()
        for i, row in enumerate(self.precision):
            pull = row @ (found - self.mean) - row[i] * (found[i] - self.mean[i])
            found[i] = self.mean[i] - pull / row[i]
        return found

    def elbo(self, q: Tensor) -> Tensor:
        """() −KL(q ‖ p) in nats: p is normalised, so its evidence is 1."""
        away = q - self.mean
        return -0.5 * away @ self.precision @ away - mean_field(self.precision)[1]
