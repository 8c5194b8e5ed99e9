"""The original wake-sleep algorithm, as for the Helmholtz machine."""

from __future__ import annotations

from dataclasses import dataclass

from ..drawing.particles import Particles
from .base import Estimate, Estimator
from .objective import Objective


@dataclass(frozen=True)
class SleepPhase(Estimator):
    """Wake-sleep: the model learns from draws of the guide (wake), the guide from latents and data that the model draws (sleep).

    surrogate = mean_k [log p(x, z̄_k) + log q(z̃_k|x̃_k)], (x̃_k, z̃_k) ~ p held constant

    Bound: ELBO, which is the model's objective. Bias: none for the model. The guide descends KL(p(z|x) ‖ q(z|x)) averaged over data drawn from the model, not the bound: the two phases have no common
    objective. Needs: data that are passed to the model as unmodified arguments; discrete sites are supported.

    References:
        Hinton, Dayan, Frey & Neal 1995, The wake-sleep algorithm for unsupervised neural networks, doi:10.1126/science.7761831;
        the "sleep phase" of Bornschein & Bengio 2015, arXiv:1406.2751. `WakeSleep` updates the guide awake.
    """

    unbiased_for = "ELBO (model)"
    unbiased_in = frozenset({"model"})
    needs = frozenset({"log_p_fixed", "log_q_fixed", "sleep_log_q"})
    reference = "Hinton et al. 1995, doi:10.1126/science.7761831"

    @property
    def objective(self) -> Objective:
        return Objective("ELBO in the model, KL(p ‖ q) over data of the model's own in the guide")

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        return Estimate(value.mean(0), (particles.log_p_fixed + particles.sleep_log_q).mean(0))
