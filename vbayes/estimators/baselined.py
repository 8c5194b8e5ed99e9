"""The score function with a moving average as its baseline."""

from __future__ import annotations

from dataclasses import dataclass

from ..drawing.particles import Particles
from .base import Estimate
from .remembering import Averaging


@dataclass(frozen=True)
class Baselined(Averaging):
    """The score-function gradient with a moving average of log w as its baseline.

    surrogate = mean_k [log p(x, z̄_k) + sg(log w_k − b) log q(z̄_k|x)]

    Bound: ELBO. Bias: none, since b does not depend on the current draw. Needs: nothing. b is one number for all data, so
    the spread of log w over the data remains in the variance.

    Args:
        decay: Decay rate of the moving average.

    References:
        Mnih & Gregor 2014, Neural variational inference and learning, arXiv:1402.0030, section 2.3 (its constant
        baseline; not the input-dependent one).
    """

    decay: float = 0.9

    needs = frozenset({"log_p_fixed", "log_q_fixed", "score"})
    reference = "Mnih & Gregor 2014, arXiv:1402.0030"
    remembers = ("baseline", "weight")

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        baseline = self.recall(baseline=value.mean())["baseline"]
        return Estimate(value.mean(0), (particles.log_p_fixed + (value - baseline) * particles.score).mean(0))
