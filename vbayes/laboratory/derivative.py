"""An objective of K draws, differentiated along their path: what judges an estimator of it where no table is small enough."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyro.infer import ELBO
from torch import Tensor

from ..drawing.particles import Particles
from ..estimators.base import Estimate, Estimator
from ..estimators.objective import BoundOf, Objective


@dataclass(frozen=True)
class Derivative(Estimator):
    """The derivative of `Objective.of_draws` itself, without weights by hand: noisier than what is made to be judged by it, and free of its errors.

    surrogate = f(log p(x, z̄) − sg(log q(z̄|x))) + g(log p(x, z) − log p(x, z̄) + sg(log p(x, z̄)) − log q(z|x)), f raised by the model and g by the guide

    Bound: that of the objective. Bias: none. Needs: a path at every site.
    """

    followed: Objective = field(kw_only=True, repr=False)

    needs = frozenset({"log_p", "log_q", "log_p_fixed"})
    requires = frozenset({"path"})

    @classmethod
    def of(cls, method: ELBO) -> Derivative | None:
        """For an estimator's objective and draws; None where that is no mean of a function of draws."""
        if not isinstance(method, Estimator) or method.objective.of_draws is None:
            return None
        return cls(method.num_particles, noise=method.noise, followed=method.objective)

    @property
    def objective(self) -> Objective:
        return self.followed

    def bound_of(self, log_w: Tensor) -> Tensor:
        return self._raised[0](log_w)

    def estimate(self, particles: Particles) -> Estimate:
        of_model, of_guide = self._raised
        held = of_model(particles.log_p_fixed - particles.log_q.detach())
        path = particles.log_p - (particles.log_p_fixed - particles.log_p_fixed.detach())
        return Estimate(held.detach(), held + of_guide(path - particles.log_q))

    @property
    def _raised(self) -> tuple[BoundOf, BoundOf]:
        assert self.followed.of_draws is not None
        return self.followed.of_draws
