"""The result of an estimator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """An estimate of a bound and a function whose gradient estimates the bound's.

    Attributes:
        value: (*local) the bound in nats, without gradient.
        surrogate: (*local) the function to differentiate; its value has no meaning.
        control: (*local) a function whose gradient has mean zero; `Estimator.finish` may add a multiple of it.
        auxiliary: (*local) the loss of the module of a `vbayes.estimators.learned.Learned` estimator.
    """

    value: Tensor
    surrogate: Tensor
    control: Tensor | None = None
    auxiliary: Tensor | None = None

    @classmethod
    def of(cls, surrogate: Tensor) -> Estimate:
        """Makes the estimate for a surrogate that is the bound itself."""
        return cls(surrogate.detach(), surrogate)

    def leaves(self) -> list[Tensor]:
        """The parameters that the surrogate depends on, in the order of its graph; for `Estimator.finish`, if gradients themselves are needed."""
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
        """Returns the estimate with a surrogate that has the given gradients in some parameters, to avoid differentiating again.

        Args:
            gradients: Gradients, with the shapes of the parameters.
            leaves: The parameters.
        """
        surrogate = sum((found.detach() * leaf).sum() for found, leaf in zip(gradients, leaves, strict=True))
        return replace(self, surrogate=surrogate)  # type: ignore[arg-type]
