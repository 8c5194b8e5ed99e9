"""What an estimator returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

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

    def leaves(self) -> list[Tensor]:
        """The parameters that the surrogate was made from, in the order in which its graph meets them: for `Estimator.finish`, where gradients themselves are wanted."""
        found: dict[int, Tensor] = {}
        met, todo = set(), [self.surrogate.grad_fn]
        while todo:
            node: Any = todo.pop()
            if node is None or node in met:
                continue
            met.add(node)
            if hasattr(node, "variable"):
                found[id(node.variable)] = node.variable
            todo.extend(parent for parent, _ in node.next_functions)
        return list(found.values())

    def with_gradients(self, gradients: Sequence[Tensor], leaves: Sequence[Tensor]) -> Estimate:
        """The same with a surrogate that has these gradients in some parameters: what was differentiated once is not differentiated again.

        Args:
            gradients: Of the shapes of the parameters.
            leaves: The parameters.
        """
        surrogate = sum((found.detach() * leaf).sum() for found, leaf in zip(gradients, leaves, strict=True))
        return replace(self, surrogate=surrogate)  # type: ignore[arg-type]
