"""K particles from one program: a single particle is captured, `vmap` replicates it, and the estimator works on all of them.

The graph of an estimator with a thousand particles is therefore no longer than that of one with two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..drawing.base_noise import Draw, shared_draws, spread
from ..drawing.draw import MORE_RUNS, draw_one
from ..drawing.particles import Particles
from ..drawing.side_by_side import flat, joined
from ..errors import CaptureFailed
from ..estimators.base import Estimator
from ..pair.pair import Pair
from ..validation import vmap
from .guards import Reads
from .masks import without_unread_shapes
from .noise import Noise, Recorder
from .pure import moving
from .trace import trace

Tensors = dict[str, Tensor]


def several(estimator: Any) -> bool:
    """Whether an estimator has particles that can be computed in parallel."""
    return isinstance(estimator, Estimator) and estimator.num_particles > 1 and not estimator.request.needs & MORE_RUNS


class SideBySide:
    """The function that `eager` makes, with all particles at once.

    Args:
        pair, estimator, total_rows: As for `eager`.
        substitute: Parameters → a context in which model and guide use them in place of the pair's own.
        gradients: (surrogate, parameters) → the gradient for each parameter.
        example: Parameters, buffers and arguments to capture one particle with, inside the pair's scope.

    Attributes:
        draws: The calls for base noise of all particles.
        guards: Values of the arguments that are built in, if any.
        rows: None, as each particle has its own rows.

    Raises:
        CaptureFailed: A draw changes the modules' buffers, so that the particles can't be exchanged.
    """

    def __init__(
        self,
        pair: Pair,
        estimator: Estimator,
        total_rows: int | None,
        substitute: Callable[[Tensors], Any],
        gradients: Callable[[Tensor, Tensors], Tensors],
        example: tuple[Tensors, Tensors, tuple[Any, ...]],
    ) -> None:
        self._pair, self._estimator, self._substitute, self._gradients = pair, estimator, substitute, gradients
        self._model, self._guide = pair.scaled(total_rows)
        self._one: Particles = None  # type: ignore[assignment]
        parameters, buffers, args = example
        live = moving(parameters, self._pair.leaves)
        self._reads = Reads(args, buffers=len(buffers))
        with Recorder() as calls:
            self._particle(live, buffers, None, args)
        self._draws = tuple(calls.draws)
        like = next(iter(parameters.values()), torch.zeros(()))
        noise = tuple(like.new_zeros(size) + 0.5 for size in calls.sizes)
        traced = trace(
            lambda *given: self._particle(*given), live, buffers, noise, args
        )  # a function, as a method has `self`
        self._graph = without_unread_shapes(traced)
        self.guards, self.rows = self._reads.guards, self._reads.rows
        if estimator.request.noise(estimator.noise) != "iid" and any(draw.kind == "rows" for draw in self._draws):
            raise CaptureFailed("antithetic and Sobol noise are not available for subsampled rows")
        self._noise = estimator.request.noise(estimator.noise)
        self.draws: tuple[Draw, ...] = shared_draws(self._noise, self._draws, estimator.num_particles)

    def _particle(
        self, parameters: Tensors, buffers: Tensors, noise: Noise | None, args: tuple[Any, ...]
    ) -> list[Tensor]:
        given = {name: value.clone() for name, value in buffers.items()}
        self._pair.set_buffers(given)
        with Recorder(noise), self._substitute(parameters), self._reads.noted():
            self._one = one = draw_one(self._model, self._guide, args, {}, self._estimator.request)
        if any(self._pair.buffers[name] is not value or value._version > 1 for name, value in given.items()):
            raise CaptureFailed("drawing changes the buffers of a module")
        return flat(one)

    def __call__(
        self, parameters: Tensors, buffers: Tensors, noise: Noise, args: tuple[Any, ...]
    ) -> tuple[Tensors, Tensor, Tensors]:
        """(parameters, buffers, noise, arguments) → (gradients, value, buffers)."""
        estimator = self._estimator
        live = moving(parameters, self._pair.leaves)
        own = spread(self._noise, self._draws, estimator.num_particles, *noise)
        made = vmap(self._graph, in_dims=(None, None, 0, None))(live, buffers, own, args)
        self._pair.set_buffers({name: value.clone() for name, value in buffers.items()})
        estimate = estimator.total(joined(self._one, made))
        surrogate, value = estimate.surrogate, estimate.value
        if self.guards:
            surrogate, value = (self.guards.times_one(each, noise[1], args) for each in (surrogate, value))
        return self._gradients(surrogate, live), value, self._pair.buffers
