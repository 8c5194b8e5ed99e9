"""The thermodynamic variational objective."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments.kind import Several
from ..arguments.real import Real
from ..drawing.particles import Particles
from ..errors import BadInput
from .base import Estimate, Estimator
from .weights import normalised


@dataclass(frozen=True)
class TVO(Estimator):
    """A lower Riemann sum of the thermodynamic integral log p(x) = ∫₀¹ E_β[log w] dβ, with the covariance gradient.

    surrogate = Σ_t (β_{t+1} − β_t) Σ_k sg(v_tk) [log w̄_k + sg(log w_k − mean_t) (β_t log p(x, z̄_k) + (1 − β_t) log q(z̄_k|x))], where
    v_t = w^β_t / Σ w^β_t stands for π_t ∝ q^(1−β_t) p^β_t, and mean_t = Σ_k v_tk log w_k

    Bound: TVO. Bias: of order 1/K, from the normalised weights, in value and gradient. Needs: nothing; discrete sites are supported.

    Args:
        betas: β_0 = 0 < β_1 < … < 1, the left ends of the intervals. (0,) alone is the ELBO.

    References:
        Masrani, Le & Wood 2019, The thermodynamic variational objective, arXiv:1907.00031
    """

    num_particles: int = 5
    betas: tuple[float, ...] = (0.0, 0.02, 0.07, 0.27)

    bound = "TVO"
    unbiased_for = "nothing; consistent in K"
    unbiased_in = frozenset()
    needs = frozenset({"log_p_fixed", "log_q_fixed", "score"})
    min_particles = 2
    independent = True
    reference = "Masrani et al. 2019, arXiv:1907.00031"

    limits = {"betas": Several(Real(least=0.0, below=1.0, given="0.0"))}

    def __post_init__(self) -> None:
        super().__post_init__()
        b = self.betas
        if not b or b[0] != 0 or any(low >= high for low, high in zip(b, (*b[1:], 1.0), strict=True)):
            raise BadInput(
                f"TVO(betas={b!r}) is not valid. Wanted: increasing numbers that start at 0 and stay below 1."
            )

    def _intervals(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """β_t and β_{t+1} − β_t, each (T,)."""
        ends = torch.tensor([*self.betas, 1.0], dtype=like.dtype, device=like.device)
        return ends[:-1], ends.diff()

    def bound_of(self, log_w: Tensor) -> Tensor:
        betas, widths = self._intervals(log_w)
        return sum(width * (normalised(beta * log_w) * log_w).sum(0) for beta, width in zip(betas, widths, strict=True))  # type: ignore[return-value]

    def estimate(self, particles: Particles) -> Estimate:
        log_w = (particles.log_p_fixed - particles.log_q_fixed).detach()
        betas, widths = self._intervals(log_w)
        surrogate = torch.zeros_like(log_w[0])
        for beta, width in zip(betas, widths, strict=True):
            v = normalised(beta * log_w)
            centred = log_w - (v * log_w).sum(0)
            energy = beta * particles.log_p_fixed + (1 - beta) * particles.score
            direct = particles.log_p_fixed - particles.log_q_fixed
            surrogate = surrogate + width * (v * (direct + centred * energy)).sum(0)
        return Estimate(self.bound_of(log_w), surrogate)
