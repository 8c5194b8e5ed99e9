"""The contract of an estimator of the ELBO and its gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import torch
from pyro.infer import ELBO
from pyro.infer.enum import get_importance_trace
from pyro.infer.util import torch_item
from pyro.util import warn_if_nan
from torch import Tensor

from .errors import BadInput
from .particles import Particles, draw_from


@dataclass(frozen=True)
class Estimate:
    """An estimate of a bound and a function whose gradient estimates the bound's.

    Attributes:
        value: (*local) the bound in nats; carries no gradient.
        surrogate: (*local) differentiate this one. Its own value means nothing.
    """

    value: Tensor
    surrogate: Tensor

    @classmethod
    def of(cls, surrogate: Tensor) -> Estimate:
        """For estimators whose surrogate is the bound itself."""
        return cls(surrogate.detach(), surrogate)


@dataclass(frozen=True)
class Estimator(ELBO, ABC):
    """An immutable value that says how to estimate a bound and its gradient from particles.

    It is a `pyro.infer.ELBO`, so `pyro.infer.SVI(model, guide, optim, vb.STL())` works. A new estimator is a subclass
    with the claims below and one method; it then stands in the contract tests, the command line and the laboratory.

    Args:
        num_particles: K, the draws per datum (L in Kingma & Welling).
    """

    num_particles: int = 1

    bound: ClassVar[str] = "ELBO"
    """What the value estimates."""
    unbiased_for: ClassVar[str] = "ELBO"
    """What the surrogate's gradient estimates without bias."""
    needs: ClassVar[frozenset[str]]
    """Fields of `Particles` that `estimate` reads, and `"path"` if every site must have a reparameterised path."""
    min_particles: ClassVar[int] = 1
    reference: ClassVar[str] = ""
    """Author year, arXiv number, equation."""

    # What Pyro's code asks of an ELBO: we neither broadcast over particles nor trace with torch.jit.
    max_plate_nesting: ClassVar[float] = float("inf")  # type: ignore[misc]
    vectorize_particles: ClassVar[bool] = False  # type: ignore[misc]
    retain_graph: ClassVar[None] = None  # type: ignore[misc]

    def __post_init__(self) -> None:
        if not isinstance(self.num_particles, int) or self.num_particles < self.min_particles:
            raise BadInput(
                f"{type(self).__name__}(num_particles={self.num_particles!r}) won't do: wanted an integer of at least "
                f"{self.min_particles}."
                + (" Its baseline comes from the other particles." if self.min_particles > 1 else "")
            )

    @abstractmethod
    def estimate(self, particles: Particles) -> Estimate:
        """The maths: shapes (K, *local) in, (*local) out; never sums over data, never negates."""

    # ---- as a pyro.infer.ELBO --------------------------------------------------------------------------------------

    def _total(self, model: Callable[..., Any], guide: Callable[..., Any], args: Any, kwargs: Any) -> Estimate:
        particles = draw_from(model, guide, args, kwargs, self.num_particles, self.needs)
        return total(self.estimate(particles), particles)

    def _get_trace(self, model: Callable[..., Any], guide: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Pyro's abstract hook: one pair of traces, (model's, guide's)."""
        return get_importance_trace("flat", float("inf"), model, guide, args, kwargs)

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """Minus the bound, in nats."""
        with torch.no_grad():
            loss = -torch_item(self._total(model, guide, args, kwargs).value)
        warn_if_nan(loss, "loss")
        return loss

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Minus the bound, () in nats, with the estimator's gradient."""
        estimate = self._total(model, guide, args, kwargs)
        return -estimate.value - (estimate.surrogate - estimate.surrogate.detach())

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """Minus the bound; adds minus the surrogate's gradient to the parameters' `.grad`."""
        estimate = self._total(model, guide, args, kwargs)
        if estimate.surrogate.requires_grad:
            (-estimate.surrogate).backward()  # type: ignore[no-untyped-call]
        loss = -torch_item(estimate.value)
        warn_if_nan(loss, "loss")
        return loss


def total(estimate: Estimate, particles: Particles) -> Estimate:
    """The estimate for the whole data set: summed over the local plates, times their common N/M."""
    return Estimate(estimate.value.sum() * particles.scale, estimate.surrogate.sum() * particles.scale)


def gradient(estimator: Any, model: Callable[..., Any], guide: Callable[..., Any], *args: Any) -> dict[str, Tensor]:
    """One draw of the gradient of the bound (not of the loss) with respect to each unconstrained parameter.

    Args:
        estimator: Any `pyro.infer.ELBO`.
        model, guide: Run in the current param store.
    """
    estimator.loss_and_grads(model, guide, *args)
    leaves = dict(pyro.get_param_store().named_parameters())
    result = {k: torch.zeros_like(p) if p.grad is None else -p.grad for k, p in leaves.items()}
    for leaf in leaves.values():
        leaf.grad = None
    return result
