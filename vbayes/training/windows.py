"""Data read from disk in windows: some rows are in memory at a time, and the next ones are read while these are used for training."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..data.dataset import Batch, Dataset
from ..data.stored import Stored, block_of

BYTES = 2**26  # size of a window in bytes; there are two windows


@dataclass(frozen=True)
class Window:
    """Some of the rows, as a sample of all.

    Attributes:
        data: Rows in memory, the same number in each window, although the last one of an epoch needs fewer.
        total: N, of the whole data set.
    """

    data: Dataset
    total: int
    chances: None = None

    def batch(self, model: Any, index: Tensor | None = None) -> Batch:
        """See `Dataset.batch`; the index refers to rows of the window."""
        return replace(self.data.batch(model, index), total=self.total)


class Windows:
    """The windows in the order of an epoch.

    Windows are filled with blocks of neighbouring rows in a random order, and minibatches are drawn from a window's rows: each row once per epoch, as
    in a full shuffle, at the sequential speed of the disk. Rows that are sorted on disk are mixed to the extent that a window holds many blocks.
    Rows of a stream fill windows in the order of arrival.

    Args:
        data: Data with columns that are read from disk.
        size: M, rows in a minibatch.
        seed, stream: Seed and stream for the orders.

    Attributes:
        steps: Steps per window.
        per_epoch: Windows per epoch.

    References:
        Xu et al. 2022, In-database machine learning with CorgiPile: stochastic gradient descent without full data shuffle, SIGMOD, arXiv:2206.05830.
    """

    def __init__(self, data: Dataset, size: int, seed: int, stream: int = 0) -> None:
        self._data, self._seed, self._stream = data, seed, stream
        columns: list[Any] = list(data.tensors.values())
        stored: list[Stored] = [column for column in columns if isinstance(column, Stored)]
        rows = BYTES // max(1, sum(column.row_bytes for column in stored))
        self.steps = max(1, min(rows, len(data)) // size)
        self._rows = self.steps * size
        self._block, self._in_order = block_of(stored), any(column.in_order for column in stored)
        self.per_epoch = -(-len(data) // self._rows)
        self._reader = ThreadPoolExecutor(1, "vbayes-rows") if all(column.background for column in stored) else None
        # The window in use and the one being read; reusing memory costs a third of allocating it.
        self._buffers: list[dict[str, Tensor]] = [{}, {}]
        self._held: tuple[int, Window] | None = None
        self._next: tuple[int, Future[Window]] | None = None
        self._order: tuple[int, Tensor] | None = None

    def __call__(self, number: int) -> Window:
        """A window, counted from 0 through all epochs; starts reading the next one."""
        if self._held is None or self._held[0] != number:
            ahead, self._next, self._held = self._next, None, None
            found = ahead[1].result() if ahead else None
            if not ahead or ahead[0] != number or found is None:
                found = self._read(number)
            self._held = number, found
            if self._reader and self.per_epoch > 1:
                self._next = number + 1, self._reader.submit(self._read, number + 1)
        return self._held[1]

    def length(self, number: int) -> int:
        """Rows of a window."""
        return min(self._rows, len(self._data) - number % self.per_epoch * self._rows)

    def order(self, number: int) -> Tensor:
        """(n,) the rows of a window, in the order of its minibatches."""
        if self._order is None or self._order[0] != number:
            generator = rng.stream(self._seed, self._stream, 1, number)
            order = torch.randperm(self.length(number), generator=generator, device="cpu")
            self._order = number, order.to(self._data.first.device)
        return self._order[1]

    def chosen(self, number: int) -> np.ndarray[Any, Any]:
        """(n,) the row numbers of a window in the data set."""
        epoch, place = divmod(number, self.per_epoch)
        first, last = place * self._rows, place * self._rows + self.length(number)
        if self._in_order:
            return np.arange(first, last)
        total, block = len(self._data), self._block
        order = torch.randperm(
            -(-total // block), generator=rng.stream(self._seed, self._stream, 0, epoch), device="cpu"
        )
        blocks = order.cpu().numpy()
        ends = np.minimum((blocks + 1) * block, total)
        before = np.concatenate([[0], np.cumsum(ends - blocks * block)])
        parts = range(np.searchsorted(before, first, "right") - 1, np.searchsorted(before, last))
        runs = [(max(first - before[i], 0), min(last, before[i + 1]) - before[i], blocks[i] * block) for i in parts]
        return np.concatenate([np.arange(start, stop) + origin for start, stop, origin in runs])

    def _read(self, number: int) -> Window:
        chosen, tensors = self.chosen(number), dict[str, Tensor]()
        rows, passed = torch.as_tensor(chosen, device="cpu"), number // self.per_epoch * len(self._data)
        self._buffers.reverse()
        buffers = self._buffers[0]
        columns: dict[str, Any] = dict(self._data.tensors)
        for name, column in columns.items():
            if isinstance(column, Stored):
                if name not in buffers:
                    buffers[name] = torch.zeros((self._rows, *column.shape[1:]), dtype=column.dtype, device="cpu")
                column.into(buffers[name], chosen + column.in_order * passed)
                tensors[name] = buffers[name].to(column.device)
            else:
                tensors[name] = column[_filled(rows, self._rows).to(column.device)]
        numbers = _filled(rows, self._rows).to(self._data.first.device)
        numbers = numbers if self._data.numbers is None else self._data.numbers[numbers]
        return Window(replace(self._data, tensors=tensors, numbers=numbers), len(self._data))


def _filled(rows: Tensor, count: int) -> Tensor:
    """Pads numbers to a given length with zeros, which are never used."""
    return torch.cat([rows, rows.new_zeros(count - len(rows))])
