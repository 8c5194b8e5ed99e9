"""The χ upper bound on the evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments.real import Real
from ..drawing.particles import Particles
from ..exact.table import Table
from .base import Estimate
from .objective import Objective
from .remembering import Remembering
from .weights import log_mean_exp


@dataclass(frozen=True)
class CUBO(Remembering):
    """The χ upper bound on log p(x), lowered: it makes q cover the posterior, where the ELBO lets q shrink into a part of it.

    surrogate = (1/n) (1/K) Σ_k w_k^n / m, lowered by training, with m a moving average of mean w^n over the draws so far

    Bound: CUBO = (1/n) log E_q[w^n] ≥ log p(x) for n ≥ 1. Bias: of order 1/K in value, since the logarithm of a mean of few draws misses the
    rare large weights that it is about; with one draw it would be the ELBO, lowered. Its gradient is that of E_q[w^n] but for a positive factor. Needs: a path at every site. Its variance is that
    of w^n: start from a guide that is too wide, not too narrow, at a small learning rate.

    Weights are not held against those of the same draws where all data are in each step: Σ_k v_k ∇ log w_k, v = w^n / Σ w^n, is the gradient of what K draws show of the bound, and that is
    lowest, without end, where q is so far off that none of them meets the posterior. In minibatches of data with latents of their own it is what is followed, and may run away.

    Args:
        order: n, at least 1; 2 is the χ² divergence.
        decay: Of m, from 0, which is v, to below 1.

    References:
        Dieng, Tran, Ranganath, Paisley & Blei 2017, Variational inference via χ upper bound minimization, arXiv:1611.00328, eq. 2 and algorithm 1.
    """

    num_particles: int = 32
    order: float = 2.0
    decay: float = 0.99

    bound = "CUBO"
    unbiased_for = "nothing; consistent in K"
    unbiased_in = frozenset()
    needs = frozenset({"log_p", "log_q"})
    requires = frozenset({"path"})
    min_particles = 2
    independent = True
    reference = "Dieng et al. 2017, arXiv:1611.00328"

    remembers = ("level",)

    limits = {"order": Real(least=1.0, given="2.0"), "decay": Real(least=0.0, below=1.0, given="0.99")}

    @property
    def objective(self) -> Objective:
        def truth(table: Table) -> Tensor:
            return (table.log_q + table.log_measure + self.order * table.log_w).logsumexp(0) / self.order

        return Objective(f"CUBO of order {self.order:g}", truth, ascend=False, settings=(self.order,))

    def bound_of(self, log_w: Tensor) -> Tensor:
        return log_mean_exp(self.order * log_w) / self.order

    def init(self, particles: Particles) -> dict[str, Tensor]:
        return {"level": self.bound_of(particles.log_w)}

    def estimate(self, particles: Particles) -> Estimate:
        bound = self.bound_of(particles.log_w)
        return Estimate(
            bound.detach(), (self.order * (bound - self._level(bound.detach(), particles))).exp() / self.order
        )

    def _level(self, bound: Tensor, particles: Particles) -> Tensor:
        """(*local) (1/n) log m, of which this draw is a part."""
        before = self.memory.get_buffer("level")
        if particles.scale != 1.0 or before.shape != bound.shape:
            return bound
        log_decay = math.log(self.decay) if self.decay else -math.inf
        level = (
            torch.logaddexp(log_decay + self.order * before, math.log1p(-self.decay) + self.order * bound) / self.order
        )
        if torch.is_grad_enabled():  # a look at the value leaves no trace
            self.memory.level = level
        return level
