"""Steps that are refused because something in them is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from .undo import finite


class NonFiniteStep(ArithmeticError):
    """An ELBO, a gradient, or the result of a step is not finite; parameters and optimiser are as before the step.

    Attributes:
        parameters: Parameters that the step would have made NaN or infinite.
    """

    def __init__(self, what: str, parameters: Sequence[Tensor] = ()) -> None:
        super().__init__(what)
        self.parameters = list(parameters)


def require_finite(params: Iterable[Tensor]) -> None:
    """Raises `NonFiniteStep` if a gradient is not finite."""
    if not finite([p.grad for p in params if p.grad is not None]):
        raise NonFiniteStep("gradient")


def finite_loss(loss_and_grads: Callable[..., Any]) -> Callable[..., Any]:
    """The same estimator, except that it raises `NonFiniteStep` if the loss is not finite."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        loss = loss_and_grads(*args, **kwargs)
        if not all(math.isfinite(part) for part in (loss if isinstance(loss, tuple) else (loss,))):
            raise NonFiniteStep("ELBO")
        return loss

    return checked
