"""The derivative of an objective of K draws along their path: the reference for the bias of its estimators if a table would be too large."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyro.infer import ELBO
from torch import Tensor

from ..drawing.particles import Particles
from ..estimators.base import Estimate, Estimator
from ..estimators.objective import BoundOf, Objective


@dataclass(frozen=True)
class Derivative(Estimator):
    """The derivative of `Objective.of_draws` by automatic differentiation: noisier than the estimators that are compared with it, but without hand-derived weights that could be wrong.

    surrogate = f(log p(x, z̄) − sg(log q(z̄|x))) + g(log p(x, z) − log p(x, z̄) + sg(log p(x, z̄)) − log q(z|x)), where the model maximises f and the guide g

    Bound: that of the objective. Bias: none. Needs: a reparameterised path at every site.
    """

    followed: Objective = field(kw_only=True, repr=False)

    needs = frozenset({"log_p", "log_q", "log_p_fixed"})
    requires = frozenset({"path"})

    @classmethod
    def of(cls, method: ELBO) -> Derivative | None:
        """Makes it for an estimator's objective and number of draws; None if the objective is not the mean of a function of draws."""
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
