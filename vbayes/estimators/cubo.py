"""The χ upper bound on the evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..arguments.real import Real
from ..drawing.particles import Particles
from ..exact.table import Table
from .base import Estimate, Estimator
from .objective import Objective
from .weights import log_mean_exp, normalised


@dataclass(frozen=True)
class CUBO(Estimator):
    """The χ upper bound on log p(x), minimised: it makes q cover the posterior, whereas the ELBO lets q shrink to a part of it.

    surrogate = Σ_k sg(v_k) log p(x, z̄_k) − (n − 1) Σ_k sg(v_k (1 − v_k)) [log p(x, z_k) − log p(x, z̄_k) − log q(z_k|x) + log q(z̄_k|x)], v = w^n / Σ w^n, lowered by training

    Bound: CUBO = (1/n) log E_q[w^n] ≥ log p(x) for n ≥ 1. Bias: of order 1/K in value and gradient, since K draws miss the rare large weights that dominate it. Needs: a path at every
    site. The bound is infinite if q is less than √(1 − 1/n) times as wide as the posterior along any direction, if the posterior has heavier tails than q, and if k̂ of the weights is 1/n or more, which
    `vb.diagnose` reports.

    The gradient is that of (1/n) log ∫ p(x, z)^n q(z|x)^(1−n) dz with the draws held constant, −(1 − 1/n) Σ_k v_k ∇ log q(z̄_k|x) in the guide, which moves q to where the weights are large. It is computed along the path, with the same mean for
    every K and less noise.

    Measured on normal posteriors with equal correlations, starting from sds of a tenth, with 32 draws, 2000 steps at 0.01, eight fits each: a guide with covariances reaches the posterior at correlations up to .8 in 2 to 20
    latents (.5 in 50), a factored one without correlation in 2 to 50 latents. With correlations, a factored guide would have to be far wider than the posterior is across them, where ever fewer of its draws fall as the number of latents grows;
    it then ends too narrow, with an infinite bound, wherever it starts: at a correlation of .3 from 10 latents on, even with 512 draws, and in five of eight fits with 5 latents; at .8 from 3 latents on, where 512 draws
    suffice for 3 latents, but 4096 do not for 5.

    Differentiating Σ_k w_k^n along the path directly would minimise the estimate from few draws, which is unbounded below: it is lowest when no draw reaches the posterior.

    Args:
        order: n, at least 1; 2 is the χ² divergence.

    References:
        Dieng, Tran, Ranganath, Paisley & Blei 2017, Variational inference via χ upper bound minimization, arXiv:1611.00328, eq. 2 and algorithm 1.
        Tucker, Lawson, Gu & Maddison 2019, Doubly reparameterized gradient estimators for Monte Carlo objectives, arXiv:1810.04152, for the path.
    """

    num_particles: int = 32
    order: float = 2.0

    bound = "CUBO"
    unbiased_for = "nothing; consistent in K"
    unbiased_in = frozenset()
    needs = frozenset({"log_p", "log_q", "log_p_fixed", "log_q_fixed"})
    requires = frozenset({"path"})
    min_particles = 2
    independent = True
    reference = "Dieng et al. 2017, arXiv:1611.00328"

    limits = {"order": Real(least=1.0, given="2.0")}

    @property
    def objective(self) -> Objective:
        def truth(table: Table) -> Tensor:
            return (table.log_q + table.log_measure + self.order * table.log_w).logsumexp(0) / self.order

        name, n = f"CUBO of order {self.order:g}", self.order
        return Objective(name, truth, ascend=False, settings=(n,), infinite_from=1 / n if n > 1 else math.inf)

    def bound_of(self, log_w: Tensor) -> Tensor:
        return log_mean_exp(self.order * log_w) / self.order

    def estimate(self, particles: Particles) -> Estimate:
        log_w = particles.log_w.detach()
        v = normalised(self.order * log_w)
        path = particles.log_p - particles.log_p_fixed - (particles.log_q - particles.log_q_fixed)
        surrogate = v * particles.log_p_fixed - (self.order - 1) * v * (1 - v) * path
        return Estimate(self.bound_of(log_w), surrogate.sum(0))
