"""Many independent gradients of one pair under one estimator."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor

from . import rng
from .dataset import Batch
from .errors import CaptureFailed
from .estimator import Estimator, gradient
from .pair import Pair
from .staging import Noise, Program, draw_noise, replicate, stage
from .validation import validation

MEMORY = 2**28  # bytes that the intermediate results of one `vmap` may take


class Replicas:
    """Draws gradients by the thousand: by `vmap` over a captured program, or else one by one.

    Args:
        pair: Initialised.
        estimator: Any `pyro.infer.ELBO`; those that are not vbayes estimators run one by one.
        batch: Arguments for model and guide.

    Attributes:
        why_slow: Why they run one by one; None if they do not.
    """

    def __init__(self, pair: Pair, estimator: ELBO, batch: Batch) -> None:
        self.estimator: Any = estimator
        self.batch = batch
        self.program: Program | None = None
        self.why_slow: str | None = f"{type(estimator).__name__} is not a vbayes estimator"
        if isinstance(estimator, Estimator):
            try:
                self.program, self.why_slow = stage(pair, estimator, batch), None
                self._try_two(pair)
            except CaptureFailed as error:
                self.program = None
                self.why_slow = str(error)
                warnings.warn(f"{error}\nIts gradients are drawn one by one, which is slow.", stacklevel=3)

    @property
    def sizes(self) -> tuple[int, int]:
        """Base normals and uniforms for one replica; (0, 0) if one by one."""
        return self.program.sizes if self.program else (0, 0)

    def gradients(self, pair: Pair, noise: Noise, seed: int) -> Iterator[Tensor]:
        """R gradients of the bound at the pair's parameters, in chunks of shape (r, P).

        P runs over `pair.parameters` in their order, each flattened.

        Args:
            pair: Where to take the gradient: the pair given at first, or a copy at other values.
            noise: (R, ≥ n) and (R, ≥ u), of which the first n and u columns are used: estimators that are handed the
                same noise see the same draws.
            seed: Of the randomness that is not base noise.
        """
        if self.program is None:
            yield from self._one_by_one(pair, len(noise[0]), seed)
            return
        parameters = {k: v.detach() for k, v in pair.parameters.items()}
        mine = [n[:, :size] for n, size in zip(noise, self.sizes, strict=True)]
        size = max(1, min(len(noise[0]), MEMORY // max(1, _footprint(self.program))))
        with rng.seeded(seed), torch.no_grad():
            for chunk in zip(*(n.split(size) for n in mine), strict=True):
                grads, _ = replicate(self.program, parameters, chunk, self.batch.args)
                yield torch.cat([g.reshape(len(g), -1) for g in grads.values()], dim=1)

    def _try_two(self, pair: Pair) -> None:
        """Raises `CaptureFailed` where a captured program has an operation that can't be replicated."""
        assert self.program is not None
        with rng.seeded(0):
            noise = draw_noise(self.program.sizes, 2, next(iter(pair.parameters.values())))
            try:
                list(self.gradients(pair, noise, 0))
            except (RuntimeError, NotImplementedError) as error:
                raise CaptureFailed(f"Pair {pair.name!r} can't be replicated: {str(error).splitlines()[0]}") from error

    def _one_by_one(self, pair: Pair, replicas: int, seed: int) -> Iterator[Tensor]:
        model, guide = pair.scaled(self.batch.total)
        with pair.scope(), rng.seeded(seed), validation(False):
            for _ in range(replicas):
                drawn = gradient(self.estimator, model, guide, *self.batch.args)
                parts = [drawn.get(name, torch.zeros_like(value)) for name, value in pair.parameters.items()]
                yield torch.cat([p.reshape(-1) for p in parts])[None]


def _footprint(program: Program) -> int:
    """Bytes of all intermediate results of one run, as if none were freed."""
    total = 0
    for node in program.graph.graph.nodes:  # type: ignore[union-attr]
        meta = node.meta.get("tensor_meta")
        if hasattr(meta, "shape"):
            total += math.prod(meta.shape) * meta.dtype.itemsize
    return total
