"""log p(x, z) of a Pyro model as a function of unconstrained latents, for many draws at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyro
import torch
from torch import Tensor
from torch.distributions import biject_to

from vbayes.validation import validation


class Density:
    """The joint log-density of latents and data in unconstrained coordinates, including the log-Jacobian of the transform.

    Args:
        model: A Pyro model.
        args: Arguments of the model.
        draws: Values of all latents, (S, …) by site; only their shapes are used.
    """

    def __init__(self, model: Callable[..., None], args: tuple[Tensor, ...], draws: Mapping[str, np.ndarray]) -> None:
        self._model, self._args = model, args
        first = {name: args[0].new_tensor(values[0]) for name, values in draws.items()}
        with validation(False):
            seen = pyro.poutine.trace(pyro.poutine.condition(model, first)).get_trace(*args)
        self._transforms = {name: biject_to(seen.nodes[name]["fn"].support) for name in first}
        self._sizes = {name: self._inverse(name, value[None]).shape[1:] for name, value in first.items()}

    def _inverse(self, name: str, values: Tensor) -> Tensor:
        return self._transforms[name].inv(values)

    def flat(self, draws: Mapping[str, np.ndarray]) -> Tensor:
        """Draws of the sites as (S, n) unconstrained numbers."""
        rows = [self._inverse(name, self._args[0].new_tensor(draws[name])) for name in self._transforms]
        return torch.cat([row.reshape(len(row), -1) for row in rows], 1)

    def __call__(self, numbers: Tensor) -> Tensor:
        """The log-density in nats, up to a constant, at (n,) unconstrained numbers."""
        values, volume, at = {}, 0.0, 0
        for name, transform in self._transforms.items():
            shape = self._sizes[name]
            free = numbers[at : at + shape.numel()].reshape(shape)
            at += shape.numel()
            values[name] = transform(free)
            volume = volume + transform.log_abs_det_jacobian(free, values[name]).sum()
        return self.log_p(values) + volume

    def log_p(self, values: Mapping[str, Tensor]) -> Tensor:
        """log p(x, z) in nats, without the log-Jacobian."""
        return pyro.poutine.trace(pyro.poutine.condition(self._model, values)).get_trace(*self._args).log_prob_sum()

    def scores(self, numbers: Tensor, *, chunk: int = 500) -> Tensor:
        """The (S, n) gradients of the log-density at (S, n) unconstrained numbers."""
        with validation(False):
            return torch.func.vmap(torch.func.grad(self), chunk_size=chunk)(numbers)
