"""Replicate: run one captured program with many draws of the noise."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..validation import vmap
from .backends import made_by
from .capture import Program, Tensors
from .cuda_capture import recorded_or_why
from .cuda_graph import InPlace
from .noise import Noise, draw_noise


def replicate(
    program: Program, parameters: Mapping[str, Tensor], noise: Noise, args: tuple[Any, ...]
) -> tuple[Tensors, Tensor]:
    """Many runs at once, by `vmap`.

    Args:
        noise: (R, n) and (R, u).

    Returns:
        Gradients of shape (R, *parameter), values of shape (R,).
    """
    randomness = "error" if program.static else "different"
    many = vmap(program.graph, in_dims=(None, None, 0, None), randomness=randomness)
    gradients, values, _ = many(dict(parameters), program.buffers, noise, args)
    return gradients, values


NUDGE = 0.03  # of unconstrained parameters
ENOUGH = 64  # runs in a call for which a CUDA graph is recorded


class Replicated:
    """Computes thousands of gradients, in chunks that fit into memory: by machine code (one after the other), by XLA, or by `vmap`, on a GPU as a CUDA graph.

    Args:
        program: From `stage`.
        parameters, args: Of the shapes that it will be called with.
        memory: Bytes that a chunk may take; a quarter of what is free if None.
        compiled: Compile it, if it can be.
        backend: By what; see `backends.made_by`.

    Attributes:
        native: The machine code; None where there is none.
        xla: The program by XLA; None where there is none.
    """

    def __init__(
        self,
        program: Program,
        parameters: Tensors,
        args: tuple[Any, ...],
        *,
        memory: int | None = None,
        compiled: bool = False,
        backend: str = "auto",
    ) -> None:
        self._program, self._memory = program, memory
        self._sizes = [value.numel() for value in parameters.values()]
        self._buffers = list(program.buffers.values())
        self.native, self.xla = None, None
        like = next(iter(parameters.values()))
        self._device = like.device
        one_type = len({value.dtype for value in parameters.values()}) == 1
        if compiled and one_type:
            noise = [numbers[0] for numbers in draw_noise(program.sizes, 1, like, rng.stream(0, device=like.device))]
            # Compared near the parameters, not at them: at an optimum a gradient may be nothing but rounding error, which differs between programs.
            generator = rng.stream(1)
            beside = [v + NUDGE * torch.randn(v.shape, generator=generator).to(v) for v in parameters.values()]
            examples = [*noise, *beside, *self._buffers, *args]
            self.native, self.xla, _ = made_by(
                backend, self._flat, examples, draws=not program.static, check=one_of_many
            )
        self._graph: InPlace | None = None
        self._together = 0  # runs in the graph
        self._recordable = compiled and program.static and like.is_cuda and not (self.native or self.xla)

    def remember(self, buffers: Tensors) -> None:
        """Sets the buffers that every run starts with."""
        self._program = replace(self._program, buffers=buffers)
        self._buffers = list(buffers.values())

    def _flat(self, normals: Tensor, uniforms: Tensor, *rest: Tensor) -> list[Tensor]:
        names, count = self._program.parameters, len(self._sizes)
        parameters = dict(zip(names, rest[:count], strict=True))
        buffers = dict(zip(self._program.buffers, rest[count:], strict=False))
        args = rest[count + len(buffers) :]
        gradients, _, _ = self._program.graph(parameters, buffers, (normals, uniforms), args)
        return [gradients[name] for name in names]

    def __call__(self, parameters: Tensors, noise: Noise, args: tuple[Any, ...]) -> Iterator[Tensor]:
        """Chunks of shape (r, P), R rows in all; P runs over the parameters in their order, each flattened.

        Args:
            noise: (R, n) and (R, u).
        """
        inputs = [*parameters.values(), *self._buffers, *args]
        self._record(noise, inputs)
        for chunk in zip(*(numbers.split(self.rows(len(noise[0]))) for numbers in noise), strict=True):
            if self.xla:
                made = self.xla.side_by_side(chunk, inputs)
                yield torch.cat([part.reshape(len(part), -1) for part in made], dim=1)
                continue
            if self._graph:
                left = self._together - len(chunk[0])
                full = [torch.cat([numbers, numbers[-1:].expand(left, -1)]) for numbers in chunk]
                yield self._graph(*full, *inputs)[0][: len(chunk[0])]
                continue
            if self.native is None:
                gradients, _ = replicate(self._program, parameters, chunk, args)
                yield torch.cat(
                    [gradients[name].reshape(len(chunk[0]), -1) for name in self._program.parameters], dim=1
                )
                continue
            made = chunk[0].new_empty(len(chunk[0]), sum(self._sizes))
            parts = made.split(self._sizes, dim=1)
            self.native.run(len(made), [*chunk, *inputs], parts, rows=(0, 1), reported=range(len(parts)))
            yield made

    def _record(self, noise: Noise, inputs: list[Any]) -> None:
        """Records a CUDA graph at the first call with enough runs, for chunks into which these can be divided evenly."""
        replicas = len(noise[0])
        if not self._recordable or replicas < ENOUGH:
            return
        self._together = math.ceil(replicas / math.ceil(replicas / self.rows(replicas)))

        def one(*given: Tensor) -> Tensor:
            return torch.cat([gradient.reshape(-1) for gradient in self._flat(*given)])

        many = vmap(one, in_dims=(0, 0, *(None for _ in inputs)))
        first = [numbers[: self._together] for numbers in noise]
        self._graph, _ = recorded_or_why(lambda: InPlace(lambda *given: [many(*given)], [], [*first, *inputs]))
        self._recordable = False  # once

    def rows(self, replicas: int) -> int:
        """R in a chunk."""
        if self._graph:
            return self._together
        made = self.native or self.xla
        return self._fitting(replicas, sum(self._sizes) * 8) if made else self.side_by_side(replicas)

    def side_by_side(self, runs: int) -> int:
        """How many of the given number of runs fit into memory by `vmap`."""
        return self._fitting(runs, footprint(self._program))

    def _fitting(self, runs: int, each: int) -> int:
        room = self._memory or free_memory(self._device) // 4
        return max(1, min(runs, room // max(1, each)))


def one_of_many(xla: Any, examples: Sequence[Tensor], together: int | None = None) -> list[Tensor]:
    """The outputs of one run, computed in the same way as many; see `XLA.side_by_side`."""
    return [made[0] for made in xla.side_by_side([row[None] for row in examples[:2]], examples[2:], together)]


def free_memory(device: torch.device) -> int:
    """Free memory of a device, in bytes, including what torch holds there for later; 1 GiB if the system does not tell."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**30


def footprint(program: Program) -> int:
    """Bytes of all intermediate results of one run, as if none were freed."""
    total = 0
    for node in program.graph.graph.nodes:  # type: ignore[union-attr]
        made = node.meta.get("val")
        if isinstance(made, Tensor):
            total += math.prod(made.shape) * made.dtype.itemsize
    return total
