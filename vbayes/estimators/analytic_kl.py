"""The ELBO with its KL in closed form where possible."""

from __future__ import annotations

from dataclasses import dataclass

from ..drawing.particles import Particles
from .base import Estimate, Estimator
from .trace import score_terms


@dataclass(frozen=True)
class AnalyticKL(Estimator):
    """The likelihood term E_q[ln p(x|z)] from draws, with KL(q(z|x) ‖ p(z)) in closed form at each site that has one.

    surrogate = mean_k [log p(x|z_k) + score terms] − KL, where sites without a closed-form KL are sampled in the first
    part; `vb.check` shows which sites these are.

    Bound: ELBO. Bias: none. Needs: nothing. Equals `pyro.infer.TraceMeanField_ELBO` draw by draw where that is right:
    every site reparameterised, the same scales and masks in model and guide (Pyro's KL takes the guide's for both), and
    no autoguide over a constrained site (there Pyro's KL leaves out the Jacobian).

    References:
        Kingma & Welling 2013, Auto-encoding variational Bayes, arXiv:1312.6114, eq. 7 (estimator B) and appendix B.
    """

    needs = frozenset({"log_p", "log_q", "kl", "scored"})
    reference = "Kingma & Welling 2013, arXiv:1312.6114, eq. 7"

    def estimate(self, particles: Particles) -> Estimate:
        value = particles.log_w
        surrogate = (value + score_terms(particles)).mean(0) - particles.kl
        return Estimate((value.mean(0) - particles.kl).detach(), surrogate)
