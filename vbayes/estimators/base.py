"""The contract of estimators of a bound and its gradient."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import pyro
import torch
from pyro.infer import ELBO
from pyro.infer.enum import get_importance_trace
from pyro.infer.util import torch_item
from pyro.util import warn_if_nan
from torch import Tensor

from ..arguments.kind import Kind
from ..arguments.takes import bind
from ..data.dataset import Batch
from ..drawing.base_noise import NoiseKind
from ..drawing.draw import draw_from
from ..drawing.particles import Particles
from ..drawing.request import Request
from ..errors import BadEstimator, BadInput
from ..pair.pair import Pair
from .contract import check_class, check_estimate, check_settings, request_of
from .estimate import Estimate as Estimate
from .objective import ELBO as ELBO_OBJECTIVE
from .objective import Objective, of_particles


@dataclass(frozen=True)
class Estimator(ELBO, ABC):
    """Base class of all estimators, which estimate a bound and its gradient from particles.

    It is a `pyro.infer.ELBO`, so `pyro.infer.SVI(model, guide, optim, vb.STL())` works. A new estimator is a subclass
    with the claims below and one method; it is then included in the contract tests, the command line and the laboratory.

    With Pyro's validation on, it rejects the shapes, plates and sites that `pyro.infer.Trace_ELBO` rejects, with the same messages. The differences
    are intended: a plain number for `obs` is rejected with advice; the warning about an enumeration mark that is ignored names an estimator that would use it;
    `Enumerated` rejects a pair without anything to enumerate, and reports Pyro's full reason with advice; a model need not broadcast over
    particles, whatever `vectorize_particles` says; and plates are taken from the draw, so `max_plate_nesting` only affects `Enumerated`.

    Args:
        num_particles: K, the draws per datum (L in Kingma & Welling).
        noise: How the base noise of the K draws is related: "iid"; "antithetic" pairs of ε and −ε, u and 1 − u; or "sobol",
            K points of a scrambled Sobol sequence. See `vbayes.drawing.base_noise`.
        max_plate_nesting, strict_enumeration_warning: As in Pyro, for `Enumerated`; other estimators find plates themselves.
        vectorize_particles: Accepted but ignored: particles are always drawn in parallel where possible, and a model need not broadcast.
        retain_graph: Passed to `backward`.
    """

    num_particles: int = 1
    noise: NoiseKind = field(default="iid", kw_only=True)
    max_plate_nesting: float = field(default=float("inf"), kw_only=True, repr=False)
    vectorize_particles: bool = field(default=False, kw_only=True, repr=False)
    retain_graph: bool | None = field(default=None, kw_only=True, repr=False)
    strict_enumeration_warning: bool = field(default=True, kw_only=True, repr=False)

    bound: ClassVar[str] = "ELBO"
    """What the value estimates."""
    unbiased_for: ClassVar[str] = "ELBO"
    """What the surrogate's gradient estimates without bias."""
    unbiased_in: ClassVar[frozenset[str]] = frozenset({"model", "guide"})
    """The parts ("model", "guide") for whose parameters the gradient is that of the expected value, `bound_of`."""
    needs: ClassVar[frozenset[str]]
    """Fields of `Particles` that `estimate` reads. Only these are computed."""
    requires: ClassVar[frozenset[str]] = frozenset()
    """Requirements on every site of the guide, or on the draws, from `vbayes.drawing.request.REQUIREMENTS`: "path", "closed_form_kl",
    "downstream_costs", "antithetic_pairs"."""
    families: ClassVar[frozenset[str]] = frozenset()
    """Allowed families of latents, for an estimator that needs `latents` or `weigh`: "bernoulli", "categorical", "one_hot", "normal", "full_normal", "normal_mixture"."""
    min_particles: ClassVar[int] = 1
    independent: ClassVar[bool] = False
    """Whether the particles must be independent, so that only `noise="iid"` is allowed."""
    reference: ClassVar[str] = ""
    """Author year, arXiv number, equation."""
    limits: ClassVar[Mapping[str, Kind]] = MappingProxyType({})
    """Setting → its allowed values, if its type alone does not determine them."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:  # without arguments when copied
            bind(cls.__name__, inspect.signature(cls.__init__), (None, *args), kwargs)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check_class(self)
        kind = type(self)
        if kind.bound != "ELBO" and kind.bound_of is Estimator.bound_of and kind.objective is Estimator.objective:
            raise BadEstimator(
                f"{kind.__name__}: bound={kind.bound!r} is not the ELBO, but bound_of is the base class's, the mean of log w. Wanted: "
                "`bound_of(self, log_w)`, the bound of (K, *local) log-weights, or an `objective`; or leave `bound` out if the value estimates the ELBO."
            )
        check_settings(self)
        if self.independent and self.noise != "iid":
            raise BadInput(
                f"{type(self).__name__}(noise={self.noise!r}) would be biased: it needs independent particles. Wanted: noise='iid', or an "
                "estimator that averages over its particles, such as vb.Pathwise, vb.AnalyticKL or vb.STL."
            )

    @abstractmethod
    def estimate(self, particles: Particles) -> Estimate:
        """Computes the estimate for each datum, from fields of shape (K, *local) to (*local), without summing over data or negating."""

    def bound_of(self, log_w: Tensor) -> Tensor:
        """The bound that `value` estimates, from K independent draws: (K, *local) log-weights in, (*local) out."""
        return log_w.mean(0)

    @property
    def objective(self) -> Objective:
        """The objective: the ELBO if `bound` says so, otherwise the mean of `bound_of` over K draws. Override it for any other `Objective`."""
        if self.bound == "ELBO":
            return ELBO_OBJECTIVE
        return of_particles(self.bound, self.bound_of, self.num_particles, self.noise)

    def finish(self, estimate: Estimate, particles: Particles) -> Estimate:
        """Hook to modify the estimate for the whole data, () each, after all sums.

        Args:
            estimate: The estimate to return if nothing is modified; for an objective that is minimised, its parts except `auxiliary` are already negated.
            particles: The particles that it was computed from.
        """
        return estimate

    def resample(self, log_w: Tensor) -> tuple[Tensor, Tensor] | None:
        """Hook between two steps, for an estimator that needs `steps`, to resample particles before the next site is drawn.

        Args:
            log_w: (K, *local) log-weights of the particles so far, live.

        Returns:
            (K, *local) indices of the particles to continue from, and (K, *local) the log-weights to continue with; None for no resampling.
        """
        return None

    # ---- queries -------------------------------------------------------------------------------------

    @property
    def weighs(self) -> bool:
        """Whether it weights particles against each other: its bound is not the mean of their log-weights, or they come in pairs, or are resampled by their weights.

        All particles must then have the same rows, and no factor N/M: with a latent shared by all data, the K-particle bound of minibatches lies above that of all rows.
        """
        alone = (
            type(self).bound_of is Estimator.bound_of
            and "antithetic_pairs" not in self.requires
            and "steps" not in self.needs
        )
        return self.num_particles > 1 and not alone

    @property
    def request(self) -> Request:
        """Its requirements on draws: the declared ones, that all latents are drawn unless it enumerates, and that all particles have the same rows
        if it weights them against each other.
        """
        asked = request_of(self)
        more = {"all_drawn"} - ({"all_drawn"} if "enumerated" in asked.needs else set()) | (
            {"same_rows"} if self.weighs else set()
        )
        return Request.of(asked.needs, asked.requires | more, asked.families) if more else asked

    def draw(self, pair: Pair, batch: Batch) -> Particles:
        """Draws the particles that it uses for a batch, inside `pair.scope()`.

        Raises:
            Unsuitable: It can't be used with this pair.
        """
        model, guide = pair.scaled(batch.total)
        return self._draw(model, guide, batch.args, {})

    def total(self, particles: Particles) -> Estimate:
        """The estimate for the whole data set: summed over the local plates, times their common N/M, and finished; negated if its objective is minimised."""
        found, factor = self.estimate(particles), particles.scale * self.objective.sign
        check_estimate(self, found, particles)
        parts = (found.value, found.surrogate, found.control, found.auxiliary)
        signs = (
            factor,
            factor,
            factor,
            particles.scale,
        )  # an auxiliary loss is always minimised, whatever the direction of the objective
        whole = (None if part is None else part.sum() * sign for part, sign in zip(parts, signs, strict=True))
        return self.finish(Estimate(*whole), particles)  # type: ignore[arg-type]

    # ---- as a pyro.infer.ELBO --------------------------------------------------------------------------------------

    def _draw(self, model: Callable[..., Any], guide: Callable[..., Any], args: Any, kwargs: Any) -> Particles:
        return draw_from(
            model, guide, args, kwargs, self.num_particles, self.request, noise=self.noise, max_plate_nesting=self.max_plate_nesting,
            strict_enumeration_warning=self.strict_enumeration_warning, resample=self.resample,
        )  # fmt: skip

    def _total(self, model: Callable[..., Any], guide: Callable[..., Any], args: Any, kwargs: Any) -> Estimate:
        return self.total(self._draw(model, guide, args, kwargs))

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
        """Minus the bound, () in nats, with the estimator's gradient.

        Differentiate it only once; twice only if the surrogate is the bound itself, as for `Pathwise`, `IWAE` or `Enumerated`. For surrogates such as that of `STL`
        or `Score`, only the first derivative is meaningful.
        """
        estimate = self._total(model, guide, args, kwargs)
        return -estimate.value - (estimate.surrogate - estimate.surrogate.detach())

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """Minus the bound; adds minus the surrogate's gradient to the parameters' `.grad`."""
        estimate = self._total(model, guide, args, kwargs)
        if estimate.surrogate.requires_grad:
            (-estimate.surrogate).backward(retain_graph=self.retain_graph)  # type: ignore[no-untyped-call]
        loss = -torch_item(estimate.value)
        warn_if_nan(loss, "loss")
        return loss


def gradient(estimator: Any, model: Callable[..., Any], guide: Callable[..., Any], *args: Any) -> dict[str, Tensor]:
    """Draws the gradient of the bound (not of the loss) with respect to each unconstrained parameter.

    Args:
        estimator: Any `pyro.infer.ELBO`.
        model, guide: Run with the current param store.
    """
    estimator.loss_and_grads(model, guide, *args)
    leaves = dict(pyro.get_param_store().named_parameters())
    result = {k: torch.zeros_like(p) if p.grad is None else -p.grad for k, p in leaves.items()}
    for leaf in leaves.values():
        leaf.grad = None
    return result
