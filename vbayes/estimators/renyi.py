"""The Rényi divergence instead of the Kullback–Leibler divergence."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..arguments.real import Real
from ..drawing.particles import Particles
from ..errors import BadInput
from .base import Estimate, Estimator
from .weights import log_mean_exp


@dataclass(frozen=True)
class Renyi(Estimator):
    """The variational Rényi bound of order α, as estimated from K particles.

    surrogate = log ((1/K) Σ_k w_k^(1−α)) / (1 − α)

    Bound: Rényi; α = 0 is `IWAE`, α → 1 the ELBO, negative α lies above log p(x) for many particles. Bias: none for the expectation of the
    K-particle estimate; that lies below the Rényi bound itself and tends to it with K. Needs: a path at every site.

    Args:
        alpha: Order α, any number except 1.

    References:
        Li & Turner 2016, Rényi divergence variational inference, arXiv:1602.02311
    """

    num_particles: int = 5
    alpha: float = 0.5

    bound = "Rényi"
    unbiased_for = "Rényi"
    needs = frozenset({"log_p", "log_q"})
    requires = frozenset({"path"})
    reference = "Li & Turner 2016, arXiv:1602.02311"

    limits = {"alpha": Real(given="0.5")}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha == 1:
            raise BadInput(
                "Renyi(alpha=1) is the ELBO, where this formula divides by zero. Wanted: another number, or vb.Pathwise()."
            )

    def bound_of(self, log_w: Tensor) -> Tensor:
        return log_mean_exp((1 - self.alpha) * log_w) / (1 - self.alpha)

    def estimate(self, particles: Particles) -> Estimate:
        return Estimate.of(self.bound_of(particles.log_w))
