"""Estimators that learn: they own a module, such as a control variate, which is trained along with model and guide."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import rng
from ..arguments.kind import Kind
from ..arguments.real import Real
from ..drawing.particles import Particles
from .base import Estimate
from .remembering import Remembering

DECAY = 0.9, 0.999  # decay rates of Adam's moving averages
EPSILON = 1e-8


@dataclass(frozen=True)
class Learned(Remembering):
    """Base class of estimators that own a module, which takes a step of Adam on `Estimate.auxiliary` after each draw.

    The module's parameters and Adam's state are part of the estimator's memory: they are saved with a fit and resumed exactly, captured and compiled with its
    steps, and `vb.compare(at=fit)` measures the estimator as trained. A gradient that is unbiased for any fixed parameters remains unbiased, as the parameters
    do not depend on the current draw.

    If an estimate has no `auxiliary`, the squared norm of its gradient in the parameters of model and guide is minimised. If the module does not change the mean gradient, this minimises its
    variance, estimated from a single draw. It needs the gradient of a gradient, so everything must have second derivatives.

    Args:
        rate: Learning rate of Adam, at least 0; with 0 the module is never changed.

    References:
        Grathwohl, Choi, Wu, Roeder & Duvenaud 2018, arXiv:1711.00123, section 3.2; Kingma & Ba 2015, arXiv:1412.6980.
    """

    rate: float = field(default=1e-3, kw_only=True)

    remembers = ("steps",)
    limits: ClassVar[Mapping[str, Kind]] = MappingProxyType({"rate": Real(least=0.0)})

    @abstractmethod
    def module(self, particles: Particles) -> nn.Module:
        """Makes the module, given some draws; `estimate` uses it as `self.network`."""

    @property
    def network(self) -> nn.Module:
        """The current module."""
        return self.memory.get_submodule("network")

    def begin(self, particles: Particles) -> None:
        super().begin(particles)
        with rng.seeded(0):
            network = self.module(particles).to(self.memory.get_buffer("steps"))
        self.memory.learned = _as_buffers(network)
        for part in ("network", "mean", "square"):
            self.memory.add_module(part, copy.deepcopy(network))
        for part in ("mean", "square"):
            self._put(part, {name: torch.zeros_like(value) for name, value in self._held(part).items()})

    def total(self, particles: Particles) -> Estimate:
        if not self.memory.begun:
            self.begin(particles)
        if not torch.is_grad_enabled():  # a look at the value leaves no trace
            return super().total(particles)
        before = self._held("network")
        live = {name: value.detach().requires_grad_() for name, value in before.items()}
        self._put("network", live)
        try:
            estimate = super().total(particles)
        finally:
            self._put("network", before)
        if estimate.auxiliary is not None and estimate.auxiliary.requires_grad:
            self._learn(estimate.auxiliary, live)
        return replace(estimate, auxiliary=None)

    def finish(self, estimate: Estimate, particles: Particles) -> Estimate:
        if estimate.auxiliary is not None:
            return estimate
        own = set(map(id, self._held("network").values()))
        leaves = [leaf for leaf in estimate.leaves() if id(leaf) not in own]
        if not leaves:  # only the value was asked for
            return estimate
        found = torch.autograd.grad(
            estimate.surrogate, leaves, create_graph=True, allow_unused=True, materialize_grads=True
        )
        length = torch.stack([part.square().sum() for part in found]).sum()
        return replace(estimate.with_gradients(found, leaves), auxiliary=length)

    def _learn(self, loss: Tensor, live: Mapping[str, Tensor]) -> None:
        """One step of Adam; entries whose gradient is not finite are not changed."""
        found = torch.autograd.grad(
            loss, list(live.values()), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        first, second = DECAY
        self.memory.steps = steps = self.memory.get_buffer("steps") + 1
        means, squares = self._held("mean"), self._held("square")
        for (name, value), gradient in zip(live.items(), found, strict=True):
            gradient = torch.where(gradient.isfinite(), gradient, 0.0).detach()
            mean = first * means[name] + (1 - first) * gradient
            square = second * squares[name] + (1 - second) * gradient.square()
            size = (square / (1 - second**steps)).sqrt() + EPSILON
            self._put("network", {name: value.detach() - self.rate / (1 - first**steps) * mean / size})
            self._put("mean", {name: mean})
            self._put("square", {name: square})

    def _held(self, part: str) -> dict[str, Tensor]:
        """Name of a former parameter → its values in one part of the memory: "network", "mean" or "square"."""
        module = self.memory.get_submodule(part)
        return {name: module.get_buffer(name) for name in self.memory.learned}

    def _put(self, part: str, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            owner, _, last = name.rpartition(".")
            self.memory.get_submodule(part).get_submodule(owner)._buffers[last] = value


def weighted(coefficient: Tensor, function: Tensor) -> Tensor:
    """coefficient · function with the coefficient held constant, as `coefficient.detach() * function`, except that this gradient can itself be differentiated in the coefficient, for a module that
    learns from it.
    """
    if not function.requires_grad:
        return function * coefficient.detach()
    product = function * 1.0
    product.register_hook(lambda gradient: gradient * coefficient)  # the value of a surrogate has no meaning
    return product


def _as_buffers(module: nn.Module) -> tuple[str, ...]:
    """Turns the parameters of a module into buffers; returns their names."""
    names = tuple(name for name, _ in module.named_parameters())
    for part in module.modules():
        for name, value in list(part._parameters.items()):
            del part._parameters[name]
            part.register_buffer(name, None if value is None else value.detach().clone())
    return names
