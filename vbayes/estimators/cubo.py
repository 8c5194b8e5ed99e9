"""The χ upper bound on the evidence."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..arguments.real import Real
from ..drawing.particles import Particles
from ..exact.table import Table
from .base import Estimate, Estimator
from .objective import Objective
from .weights import log_mean_exp


@dataclass(frozen=True)
class CUBO(Estimator):
    """The χ upper bound on log p(x), lowered: it makes q cover the posterior, where the ELBO lets q shrink into a part of it.

    surrogate = (1/n) log ((1/K) Σ_k w_k^n), lowered by training

    Bound: CUBO = (1/n) log E_q[w^n] ≥ log p(x) for n ≥ 1. Bias: of order 1/K in value and gradient, since the logarithm of a mean of few draws misses the
    rare large weights that it is about; with one draw it would be the ELBO, lowered. Needs: a path at every site. Its variance is that of w^n: start
    from a guide that is too wide, not too narrow.

    Args:
        order: n, at least 1; 2 is the χ² divergence.

    References:
        Dieng, Tran, Ranganath, Paisley & Blei 2017, Variational inference via χ upper bound minimization, arXiv:1611.00328, eq. 2.
    """

    num_particles: int = 32
    order: float = 2.0

    bound = "CUBO"
    unbiased_for = "nothing; consistent in K"
    unbiased_in = frozenset()
    needs = frozenset({"log_p", "log_q"})
    requires = frozenset({"path"})
    min_particles = 2
    independent = True
    reference = "Dieng et al. 2017, arXiv:1611.00328"

    limits = {"order": Real(least=1.0, given="2.0")}

    @property
    def objective(self) -> Objective:
        def truth(table: Table) -> Tensor:
            return (table.log_q + table.log_measure + self.order * table.log_w).logsumexp(0) / self.order

        return Objective(f"CUBO of order {self.order:g}", truth, ascend=False, settings=(self.order,))

    def bound_of(self, log_w: Tensor) -> Tensor:
        return log_mean_exp(self.order * log_w) / self.order

    def estimate(self, particles: Particles) -> Estimate:
        return Estimate.of(self.bound_of(particles.log_w))
