"""What torch remembers of streams, captures, memory and random numbers, without a card: to see what is left of it after a capture that failed.

`torch.cuda.graph` itself is torch's own. Kernels are noted, and a graph is replayed by noting them again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch


class Stream:
    def __init__(self, card: Card, index: int) -> None:
        self.card, self.device_index = card, index
        self.device = torch.device("cuda", index)
        self.waited: list[Stream] = []
        self.graph: Graph | None = None  # that is captured on it

    def wait_stream(self, other: Stream) -> None:
        self.waited.append(other)


class Graph:
    """As torch 2.11 has it with `old`: an error at its end leaves all that its beginning has set."""

    def __init__(self, card: Card) -> None:
        self.card, self.kernels = card, list[Callable[[], None]]()
        self.invalid, self.has_been_reset = False, False
        card.graphs.append(self)

    def capture_begin(self, pool: Any = None, *, capture_error_mode: str = "global", **_: Any) -> None:
        card, self.stream, self.pool = self.card, self.card.stream(), pool or (len(self.card.graphs), 0)
        assert self.stream is not card.default[self.stream.device_index] and self.pool not in card.underway
        card.underway.append(self.pool)
        card.modes.append(capture_error_mode)
        card.capturing_generators |= card.old
        self.stream.graph = self

    def capture_end(self) -> None:
        card, self.stream.graph = self.card, None
        if self.invalid and card.old:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        card.underway.remove(self.pool)
        if self.invalid:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        card.capturing_generators = False

    def replay(self) -> None:
        for kernel in self.kernels:
            self.card.ran += 1
            kernel()

    def reset(self) -> None:
        self.has_been_reset = True


class Card:
    """Two devices.

    Args:
        old: Whether torch is of a version that repairs nothing.
    """

    def __init__(self, old: bool = True) -> None:
        self.old, self.index, self.mode = old, 0, 0
        self.default = [Stream(self, 0), Stream(self, 1)]
        self.streams = list(self.default)  # that are current
        self.graphs, self.underway, self.modes = list[Graph](), list[Any](), list[str]()
        self.capturing_generators, self.broken, self.ran, self.pools, self.cleared = False, False, 0, 0, 0

    def stream(self, device: Any = None) -> Stream:
        index = self.index if device is None else torch.device(device).index or 0
        return self.streams[index]

    def set_stream(self, stream: Stream) -> None:
        self.index, self.streams[stream.device_index] = stream.device_index, stream

    @contextlib.contextmanager
    def on_stream(self, stream: Stream) -> Iterator[None]:
        before, there = self.streams[self.index], self.streams[stream.device_index]
        self.set_stream(stream)
        try:
            yield
        finally:
            self.set_stream(there)
            self.set_stream(before)

    @contextlib.contextmanager
    def on_device(self, device: Any) -> Iterator[None]:
        before, self.index = self.index, torch.device(device).index or 0
        try:
            yield
        finally:
            self.index = before

    def kernel(self, run: Callable[[], None] = lambda: None, index: int = 0) -> None:
        """Launches a kernel: recorded where the current stream of its device is being captured, else run."""
        if (graph := self.streams[index].graph) is None:
            self.ran += 1
            run()
        else:
            graph.kernels.append(run)

    def read(self) -> None:
        """Brings a value to the host."""
        if self.mode == 2:
            raise RuntimeError("called a synchronizing CUDA operation")
        if graph := self.stream().graph:
            graph.invalid = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    def draw(self) -> None:
        """Draws a random number."""
        if self.capturing_generators and self.stream().graph is None:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")

    def set_mode(self, mode: int | str) -> None:
        self.mode = {"default": 0, "warn": 1, "error": 2}.get(str(mode), mode)  # type: ignore[assignment]

    def synchronize(self) -> None:
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def end_pool(self, index: int, pool: Any) -> None:
        if pool not in self.underway:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.underway.remove(pool)

    def new_pool(self) -> tuple[int, int]:
        self.pools += 1
        return 0, self.pools

    def clear(self) -> None:
        self.cleared += 1


def played(card: Card, patched: pytest.MonkeyPatch) -> None:
    """Has torch ask a card of these."""
    zeros = torch.zeros
    for owner, name, value in (
        (torch.cuda, "device", card.on_device), (torch.cuda, "stream", card.on_stream), (torch.cuda, "set_stream", card.set_stream),
        (torch.cuda, "current_stream", card.stream), (torch.cuda, "Stream", lambda: Stream(card, card.index)),
        (torch.cuda, "CUDAGraph", lambda: Graph(card)), (torch.cuda, "graph_pool_handle", card.new_pool),
        (torch.cuda, "get_sync_debug_mode", lambda: card.mode), (torch.cuda, "set_sync_debug_mode", card.set_mode),
        (torch.cuda, "synchronize", card.synchronize), (torch.cuda, "empty_cache", lambda: None),
        (torch._C, "_host_emptyCache", lambda: None), (torch._C, "_cuda_endAllocateToPool", card.end_pool),
        (torch._C, "_cuda_clearCublasWorkspaces", card.clear), (torch.cuda.graph, "default_capture_stream", None),
        (torch, "zeros", lambda *size, device=None: zeros(*size, device="cpu")),
    ):  # fmt: skip
        patched.setattr(owner, name, value, raising=False)
