"""Steps that are refused because something in them is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from .undo import finite


class NonFiniteStep(ArithmeticError):
    """An ELBO or gradient is not finite, or what a step has led to was not: parameters and optimiser are what they were before it.

    Attributes:
        parameters: That the step would have led out of the real numbers.
    """

    def __init__(self, what: str, parameters: Sequence[Tensor] = ()) -> None:
        super().__init__(what)
        self.parameters = list(parameters)


def require_finite(params: Iterable[Tensor]) -> None:
    """Raises `NonFiniteStep` where a gradient is not."""
    if not finite([p.grad for p in params if p.grad is not None]):
        raise NonFiniteStep("gradient")


def finite_loss(loss_and_grads: Callable[..., Any]) -> Callable[..., Any]:
    """As it is, but that it raises `NonFiniteStep` where the loss is not finite."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        loss = loss_and_grads(*args, **kwargs)
        if not all(math.isfinite(part) for part in (loss if isinstance(loss, tuple) else (loss,))):
            raise NonFiniteStep("ELBO")
        return loss

    return checked
