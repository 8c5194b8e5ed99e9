"""The rows that each step of a fit uses, and the number of steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..arguments.names import STEPS
from ..data.dataset import Dataset
from ..errors import BadInput
from .history import Numbers
from .windows import Window, Windows

ORDER, NOISE, ROWS = 0, 1, 2  # purpose of the stream of random numbers
N = TypeVar("N", int, np.ndarray[Any, np.dtype[np.int64]])
DEFAULT = 1000  # default number of steps


class Minibatches:
    """The minibatches of a fit. The order of an epoch is a function of seed and epoch; for data on disk, rows come window by window, see `Windows`.

    Args:
        data: The whole data set.
        batch_size: M; None takes all rows in each step.
        seed: Seed for the fit.

    Attributes:
        sizes: Rows in a minibatch, and in the smaller one at the end of an epoch if there is one; None for all.
        per_epoch: Steps per epoch.
    """

    def __init__(self, data: Dataset, batch_size: int | None, seed: int) -> None:
        self._data, self._seed, total = data, seed, len(data)
        self._size = batch_size or total
        self.sizes: tuple[int | None, ...] = (None,)
        self.per_epoch = 1
        if batch_size is not None and batch_size < total:
            self.per_epoch = math.ceil(total / batch_size)
            self.sizes = (batch_size, total % batch_size) if total % batch_size else (batch_size,)
        self._held: dict[int, Tensor] = {}
        self._drawn: tuple[int, Dataset] = 0, data
        self._windows = Windows(data, batch_size, seed, ORDER) if data.stored and batch_size is not None else None

    def data(self, step: int) -> Dataset | Window:
        """The data from which a step takes its rows."""
        if self._windows:
            return self._windows(self._window(step)[0])
        epoch = self.epoch(step)
        if self._data.chances is not None and self._drawn[0] != epoch:
            self._drawn = epoch, self._data.in_epoch(epoch)
        return self._drawn[1]

    def room(self, step: int) -> float:
        """The number of steps from this one on that use the same data."""
        if self._windows:
            number, taken = self._window(step)
            return math.ceil(self._windows.length(number) / self._size) - taken
        return math.inf if self._data.chances is None else self.per_epoch - (step - 1) % self.per_epoch

    def epoch(self, step: N) -> N:
        """The epoch (from 1) of a step (from 1), or of each of several steps."""
        return (step - 1) // self.per_epoch + 1

    def share(self, size: int | None) -> float:
        """The fraction of steps with this number of rows."""
        rest = (len(self.sizes) - 1) / self.per_epoch
        return 1 - rest if size == self.sizes[0] else rest

    def index(self, step: int) -> Tensor | None:
        """(M,) the rows of a step; None for all of them."""
        rows, which = self.ahead(step, 1)
        chosen = rows[0 if which is None else int(which[0])]
        return None if chosen is None else chosen[0]

    def ahead(self, first: int, count: int) -> tuple[list[Tensor | None], Tensor | None]:
        """The rows of `count` steps.

        Returns:
            For each of the sizes the rows of its steps, (n, size); and (count,) uint8, the index of each step's size, or None if there is only one size.
        """
        size = self.sizes[0]
        if size is None:
            return [None], None
        if self._windows:
            return self._in_window(first, count)
        each = [self._epoch(e) for e in range(self.epoch(first), self.epoch(first + count - 1) + 1)]
        # With many rows, a copy would take as long as the steps.
        orders = each[0][None] if len(each) == 1 else torch.stack(each)
        start, whole = (first - 1) % self.per_epoch, len(self._data) // size
        if len(self.sizes) == 1:
            return [orders.view(-1, size)[start : start + count]], None
        which = torch.zeros(len(orders), self.per_epoch, dtype=torch.uint8, device="cpu")
        which[:, -1] = 1
        which = which.flatten()[start : start + count]
        rest = int(which.sum())
        full = orders[:, : whole * size].reshape(-1, size)[start : start + count - rest]
        return [full, orders[:rest, whole * size :]], which

    def _window(self, step: int) -> tuple[int, int]:
        """The number of the window that a step uses, and the number of the step within it."""
        assert self._windows
        epoch, place = divmod(step - 1, self.per_epoch)
        window, taken = divmod(place, self._windows.steps)
        return epoch * self._windows.per_epoch + window, taken

    def _in_window(self, first: int, count: int) -> tuple[list[Tensor | None], Tensor | None]:
        """`ahead` for steps within one window."""
        assert self._windows
        number, start = self._window(first)
        order, size = self._windows.order(number), self._size
        whole = len(order) // size
        found: list[Tensor | None] = [order[: whole * size].view(-1, size)[start : start + count]]
        if len(self.sizes) == 1:
            return found, None
        which = torch.zeros(count, dtype=torch.uint8, device="cpu")
        which[whole - start :] = 1
        return [*found, order[None, whole * size :][: int(which.sum())]], which

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._held:
            self._held = {e: rows for e, rows in self._held.items() if e >= epoch - 1}
            # On the CPU whatever the device, so that a seed gives the same batches everywhere.
            order = torch.randperm(len(self._data), generator=rng.stream(self._seed, ORDER, epoch), device="cpu")
            self._held[epoch] = order.to(self._data.first.device)
        return self._held[epoch]


class EpochLoss:
    """The mean loss of each epoch, which some schedules depend on.

    Args:
        minibatches: The minibatches of the steps.
        taken: Number of earlier steps.
        elbos: ELBOs of earlier steps, in nats, to continue an epoch that has begun.
    """

    def __init__(self, minibatches: Minibatches, taken: int, elbos: Sequence[float] | Numbers) -> None:
        begun = taken % minibatches.per_epoch
        self._per_epoch, self._sum = minibatches.per_epoch, -math.fsum(elbos[len(elbos) - begun :])

    def after(self, step: int, elbo: float) -> float | None:
        """The mean loss if this step ends an epoch, otherwise None."""
        self._sum -= elbo
        if step % self._per_epoch:
            return None
        mean, self._sum = self._sum / self._per_epoch, 0.0
        return mean


def count_steps(data: Dataset, batch_size: int | None, steps: int | None, epochs: int | None) -> int:
    """Optimiser steps in `steps` or `epochs`, of which at most one is given; 1000 if none is.

    Raises:
        BadInput: Both were given, or the number is not valid.
    """
    if steps is not None and epochs is not None:
        raise BadInput(f"Both steps={steps} and epochs={epochs} were given. Wanted: one of them.")
    wanted = steps if steps is not None else epochs if epochs is not None else DEFAULT
    wanted = STEPS("steps" if epochs is None else "epochs", wanted)
    return wanted if epochs is None else STEPS("steps", wanted * Minibatches(data, batch_size, 0).per_epoch)
