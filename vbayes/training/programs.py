"""What is captured for the steps of a fit."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from ..data.dataset import Dataset
from ..errors import CaptureFailed
from ..pair.pair import Pair
from ..staging import Program, stage
from .engine import KEEPS_READING, VALUES
from .minibatches import Minibatches

Kind = tuple[int | None, int]
"""Rows in a minibatch, None for all; and which of the programs for so many: they differ in what model and guide read of the rows' values."""


class Programs:
    """Programs by kind of minibatch, made when they are needed.

    Args:
        pair, estimator: What is captured.
        data: All of it.

    Attributes:
        made: Those that there are.
    """

    def __init__(self, pair: Pair, estimator: Any, data: Dataset) -> None:
        self._pair, self._estimator, self._data = pair, estimator, data
        self.made: dict[Kind, Program] = {}

    def of(
        self, size: int | None, number: int = 0, index: Tensor | None = None, data: Dataset | None = None
    ) -> Program:
        """A program, captured on some rows if it has to be.

        Args:
            index: (M,) those rows; the first ones if None.
            data: What they are of, where it changes from epoch to epoch.

        Raises:
            CaptureFailed: As `stage`; or so many programs don't do, or they differ in more than what is built in.
        """
        kind = size, number
        if kind not in self.made:
            if number == VALUES:
                line = self.made[size, 0].guards.line  # type: ignore[union-attr]
                raise CaptureFailed(KEEPS_READING.format(pair=self._pair.name, line=line, count=VALUES))
            if size is not None and index is None:
                index = torch.arange(size, device=self._data.first.device)
            made = stage(self._pair, self._estimator, (data or self._data).batch(self._pair.model, index))
            if any(made.still != other.still for other in self.made.values()):
                raise CaptureFailed(
                    f"Pair {self._pair.name!r} gives gradients to other parameters in minibatches of another size, or with other values in "
                    "them, which a program does not."
                )
            self.made[kind] = made
        return self.made[kind]

    def numbers(self, size: int | None, data: Dataset, index: Tensor | None, count: int) -> Tensor:
        """(n,) which of the programs for so many rows serves for each of n steps, on the CPU.

        Args:
            data: What the steps see the rows of.
            index: (n, M) those rows; None for all of them in each.
            count: n.
        """
        found = torch.full((count,), -1, device="cpu")
        for number in itertools.count():
            left = (found < 0).nonzero().flatten()
            if not len(left):
                return found
            rows = None if index is None else index[left]
            program = self.of(size, number, None if rows is None else rows[0], data)
            columns = data.batch(self._pair.model).args
            nothing = self._data.first.new_empty(len(left), 0, dtype=torch.get_default_dtype())
            if program.guards is None:
                holds = torch.ones(len(left), dtype=torch.bool, device="cpu")
            elif rows is None:
                holds = program.guards.hold(nothing[0], columns).cpu().expand(len(left))
            else:
                holds = program.guards.hold_in(nothing, columns, rows).cpu()
            found[left[holds]] = number
        raise AssertionError  # it counts for ever

    def sort(self, minibatches: Minibatches, first: int, count: int) -> list[tuple[Kind, Tensor, Tensor | None]]:
        """Which steps are of which kind.

        Args:
            first: The first of them.
            count: n.

        Returns:
            For each kind that there is: the places of its steps among these, and their rows.
        """
        data, (indices, which) = minibatches.data(first), minibatches.ahead(first, count)
        found: list[tuple[Kind, Tensor, Tensor | None]] = []
        for place, (size, index) in enumerate(zip(minibatches.sizes, indices, strict=True)):
            at = torch.arange(count, device="cpu") if which is None else (which == place).nonzero().flatten()
            numbers = self.numbers(size, data, index, len(at))
            for number in numbers.unique().tolist():
                mine = numbers == number
                found.append(((size, number), at[mine], index if index is None or mine.all() else index[mine]))
        return found

    def differ(self, stacked: bool) -> bool:
        """Whether fits side by side could need different ones for a step.

        Args:
            stacked: They have data of their own.
        """
        return any(program.guards and (stacked or size is not None) for (size, _), program in self.made.items())
