"""What an estimator returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """An estimate of a bound and a function whose gradient estimates the bound's.

    Attributes:
        value: (*local) the bound in nats; carries no gradient.
        surrogate: (*local) differentiate this one. Its own value means nothing.
        control: (*local) its gradient has mean zero; `Estimator.finish` may mix some of it in.
        auxiliary: (*local) what the module of a `vbayes.estimators.learned.Learned` estimator is trained to lower.
    """

    value: Tensor
    surrogate: Tensor
    control: Tensor | None = None
    auxiliary: Tensor | None = None

    @classmethod
    def of(cls, surrogate: Tensor) -> Estimate:
        """For estimators whose surrogate is the bound itself."""
        return cls(surrogate.detach(), surrogate)
