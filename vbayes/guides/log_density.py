"""The joint density of a model as a function of one vector of unconstrained numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import config_enumerate
from pyro.infer.mcmc.util import TraceEinsumEvaluator
from torch import Tensor
from torch.distributions import Distribution, biject_to
from torch.distributions.transforms import IndependentTransform, StickBreakingTransform
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_map

from .. import rng
from ..validation import no_warnings_of_nan, validation, vmap
from .mappable import ReadsOfData, mappable

OF_TORCH = (
    "An output with one or more elements was resized",
    "There is a performance drop",
)  # in the computation of second derivatives
NUMBERS = 2**24  # numbers held at once, which limits how many points are evaluated together


class LogDensity:
    """log p(x, z) of a model as a function of its continuous latents in unconstrained space, with the Jacobian; discrete latents are marginalised.

    It is computed in float64 if the model allows it, because the curvature of a badly scaled posterior needs the precision.

    Args:
        model, args, kwargs: A Pyro model and its arguments.
        prototype: A trace of the model, whose latents are concatenated.
        volume: Whether to include the log Jacobian determinant of the map to the latents; without it, the mode is that in constrained space.

    Attributes:
        size: Number of dimensions, D.
        captured: Whether it is a graph of tensor operations, which can be vectorised over many points.
        largest: Number of elements of the largest intermediate tensor.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        prototype: pyro.poutine.Trace,
        *,
        volume: bool = True,
    ) -> None:
        self._volume = volume
        self.sites: dict[str, Any] = {
            name: site for name, site in prototype.iter_stochastic_nodes() if not is_discrete(site)
        }
        self._to = {name: biject_to(site["fn"].support) for name, site in self.sites.items()}
        start = {name: self._to[name].inv(site["value"]).detach() for name, site in self.sites.items()}
        self._shapes = {name: value.shape for name, value in start.items()}
        self.start = torch.cat([value.reshape(-1) for value in start.values()]).double()
        self.size = len(self.start)
        self._summed = any(is_discrete(site) for _, site in prototype.iter_stochastic_nodes())
        every: list[Any] = [site for site in prototype.nodes.values() if site["type"] == "sample"]
        self._nesting = max(
            (-frame.dim for site in every for frame in site["cond_indep_stack"] if frame.vectorized), default=0
        )
        self._model, self._args, self._kwargs = model, args, dict(kwargs)
        self.dtype, self.captured = torch.float64, False
        self.largest = max([self.size, *(a.numel() for a in (*args, *kwargs.values()) if isinstance(a, Tensor))])
        self._run = self._captured()

    def __call__(self, numbers: Tensor) -> Tensor:
        """Log density () in nats at (D,) numbers; float64, whatever the model's dtype."""
        return self._run(numbers.to(self.dtype)).double()

    def many(self, numbers: Tensor) -> Tensor:
        """Log densities (S,) in nats at (S, D) numbers; minus infinity where not finite."""
        return self._mapped(self, numbers, 1).nan_to_num(-torch.inf, -torch.inf, -torch.inf)

    def gradients(self, numbers: Tensor) -> Tensor:
        """Gradients (S, D) at (S, D) numbers."""
        return self._mapped(torch.func.grad(self) if self.captured else self._gradient, numbers, 1)

    def with_gradients(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Log densities (S,) and gradients (S, D) at (S, D) numbers, from one evaluation."""

        def one(each: Tensor) -> Tensor:
            gradient, value = torch.func.grad_and_value(self)(each)
            return torch.cat([value[None], gradient])

        if not self.captured:
            return self.many(numbers), self.gradients(numbers)
        both = self._mapped(one, numbers, 1)
        return both[:, 0], both[:, 1:]

    def hessians(self, numbers: Tensor) -> Tensor:
        """Hessians (S, D, D) at (S, D) numbers."""
        one = (
            torch.func.jacrev(torch.func.grad(self))
            if self.captured
            else lambda each: torch.autograd.functional.hessian(self, each)
        )
        return self._mapped(one, numbers, self.size)

    def _gradient(self, numbers: Tensor) -> Tensor:
        with torch.enable_grad():
            live = numbers.detach().requires_grad_()
            return torch.autograd.grad(self(live), live)[0]

    def _mapped(self, one: Callable[[Tensor], Tensor], numbers: Tensor, copies: int) -> Tensor:
        with self._inside(), torch.no_grad():
            if not self.captured:
                return torch.stack([one(each) for each in numbers]).detach()
            return torch.cat([vmap(one)(some) for some in numbers.split(max(1, NUMBERS // (copies * self.largest)))])

    def values(self, numbers: Tensor) -> dict[str, Tensor]:
        """Site → its unconstrained value in its shape, from (..., D)."""
        parts = numbers.split([shape.numel() for shape in self._shapes.values()], -1)
        return {
            n: part.reshape((*numbers.shape[:-1], *shape))
            for (n, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def representable(self, ways: Tensor) -> Tensor:
        """(S, D) ways from the origin, shortened where they would take an element of a simplex below the smallest float, from where on its density is constant."""
        limit = -0.9 * math.log(torch.finfo(self.dtype).tiny)
        parts = [part.reshape(len(ways), -1) for n, part in self.values(ways).items() if _breaks_sticks(self._to[n])]
        if not parts:
            return ways
        return ways / (torch.cat(parts, 1).abs().amax(1, keepdim=True) / limit).clamp_min(1.0)

    def of_prior(self, seed: int) -> Tensor | None:
        """(D,) unconstrained value of a draw from the model's prior; None if it can't be drawn from, such as a flat prior."""
        try:
            with pyro.poutine.block(), rng.seeded(seed), torch.no_grad(), validation(False):
                run = pyro.poutine.trace(self._model).get_trace(*self._args, **self._kwargs)
            drawn = [self._to[name].inv(run.nodes[name]["value"]).reshape(-1) for name in self.sites]
        except Exception:  # anything that the model's code, or an improper prior, raises
            return None
        found = torch.cat(drawn).to(self.start)
        return found if found.shape == self.start.shape and found.isfinite().all() else None

    def name_of(self, place: int) -> str:
        """Name of a number: its site, with its index if the site has several."""
        for name, shape in self._shapes.items():
            if place < shape.numel():
                index = [int(i) for i in np.unravel_index(place, shape)] if shape else []
                return f"{name}[{', '.join(map(str, index))}]" if index else name
            place -= shape.numel()
        raise IndexError(place)

    # ---- how it is computed ------------------------------------------------------------------------------------------

    def _by_model(self, numbers: Tensor) -> Tensor:
        to = numbers.dtype
        args, kwargs = tree_map(
            lambda a: a.to(to) if isinstance(a, Tensor) and a.is_floating_point() else a, (self._args, self._kwargs)
        )
        values, volume = {}, numbers.new_zeros(())
        for name, part in self.values(numbers).items():
            values[name] = self._to[name](part)
            if self._volume:
                volume = volume + self._to[name].log_abs_det_jacobian(part, values[name]).sum()
        held = pyro.poutine.condition(self._model, data=values)
        if not self._summed:
            return pyro.poutine.trace(held).get_trace(*args, **kwargs).log_prob_sum() + volume
        marked = pyro.poutine.enum(config_enumerate(held), first_available_dim=-1 - self._nesting)
        seen = pyro.poutine.trace(marked).get_trace(*args, **kwargs)
        return TraceEinsumEvaluator(seen, True, self._nesting).log_prob(seen) + volume

    def _reading(self, numbers: Tensor) -> Tensor:
        with ReadsOfData():
            return self._by_model(numbers)

    def _captured(self) -> Callable[[Tensor], Tensor]:
        """A graph of tensor operations, which can be differentiated and vectorised; the model itself if it can't be captured."""
        for dtype in (torch.float64, self._own_dtype()):
            self.dtype = dtype
            here = self.start.to(self.dtype)
            try:
                with self._inside(), torch.no_grad():
                    # Not the method itself, because of its argument self.
                    graph = mappable(make_fx(lambda numbers: self._reading(numbers))(here), here)
                    two = torch.stack([here + 0.1, here])
                    plain = torch.stack([self._by_model(one) for one in two])
                    self.captured = torch.allclose(vmap(graph)(two), plain, rtol=1e-4, atol=1e-4, equal_nan=True)
            except Exception:  # anything that the model's code raises on traced values, on many at once, or in float64
                continue
            self.largest = max([self.largest, *(_numbers(node) for node in graph.graph.nodes)])
            return graph if self.captured else self._by_model
        return self._by_model

    def _own_dtype(self) -> torch.dtype:
        found = next((a.dtype for a in self._args if isinstance(a, Tensor) and a.is_floating_point()), None)
        return found or torch.get_default_dtype()

    @contextmanager
    def _inside(self) -> Iterator[None]:
        before, check = torch.get_default_dtype(), Distribution._validate_sample
        with validation(False), no_warnings_of_nan(), warnings.catch_warnings():
            for text in OF_TORCH:
                warnings.filterwarnings("ignore", text)
            try:
                torch.set_default_dtype(self.dtype)
                Distribution._validate_sample = lambda *_: None  # type: ignore[method-assign]  # of those that were made with validation of their own
                yield
            finally:
                Distribution._validate_sample = check  # type: ignore[method-assign]
                torch.set_default_dtype(before)


def is_discrete(site: Any) -> bool:
    """Whether a latent is discrete."""
    return bool(site["fn"].support.is_discrete)


def _breaks_sticks(transform: Any) -> bool:
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    return isinstance(transform, StickBreakingTransform)


def _numbers(node: Any) -> int:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, Tensor) else 0
