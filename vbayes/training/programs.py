"""What is captured for the steps of a fit."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..data.dataset import Dataset
from ..errors import CaptureFailed
from ..pair.pair import Pair
from ..staging import Program, stage
from .engine import KEEPS_READING, VALUES
from .minibatches import Minibatches
from .windows import Window

Kind = tuple[int | None, int]
"""Rows in a minibatch, None for all; and which of the programs for so many: they differ in what model and guide read of the rows' values."""
AHEAD = 64  # steps
Rows = Callable[[Program], Tensor]


class Programs:
    """Programs by kind of minibatch, made when they are needed.

    Args:
        pair, estimator: What is captured.
        data: All of it.
        rows: (program, step, n) → (n, u): the rows that its plates draw in n steps, among zeros.

    Attributes:
        made: Those that there are.
    """

    def __init__(self, pair: Pair, estimator: Any, data: Dataset, rows: Callable[[Program, int, int], Tensor]) -> None:
        self._pair, self._estimator, self._data, self._rows = pair, estimator, data, rows
        self.made: dict[Kind, Program] = {}
        self._looked_ahead = False

    def of(
        self,
        size: int | None,
        number: int = 0,
        index: Tensor | None = None,
        data: Dataset | Window | None = None,
        drawn: Callable[[Program], Tensor] | None = None,
    ) -> Program:
        """A program, captured on some rows if it has to be.

        Args:
            index: (M,) those rows; the first ones if None.
            data: What they are of, where it changes from epoch to epoch.
            drawn: As for `stage`; of the first step if None.

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
            batch = (data or self._data).batch(self._pair.model, index)
            made = stage(self._pair, self._estimator, batch, drawn or (lambda program: self._rows(program, 1, 1)[0]))
            if any(made.still != other.still for other in self.made.values()):
                raise CaptureFailed(
                    f"Pair {self._pair.name!r} gives gradients to different parameters in minibatches of another size, or with other values, "
                    "which a compiled program can't do."
                )
            self.made[kind] = made
        return self.made[kind]

    def numbers(self, size: int | None, data: Dataset | Window, index: Tensor | None, rows: Rows, at: Tensor) -> Tensor:
        """(n,) which of the programs for so many rows serves for each of n steps, on the CPU.

        Args:
            data: What the steps see the rows of.
            index: (n, M) those rows; None for all of them in each.
            rows: See `sort`.
            at: (n,) the places of the steps among those that `rows` knows.
        """
        found = torch.full((len(at),), -1, device="cpu")
        for number in itertools.count():
            left = (found < 0).nonzero().flatten()
            if not len(left):
                return found
            taken = None if index is None else index[left]
            drawn = functools.partial(_one_of, rows, int(at[left[0]]))
            program = self.of(size, number, None if taken is None else taken[0], data, drawn)
            if program.guards is None:
                found[left] = number
                continue
            columns, uniforms = data.batch(self._pair.model).args, rows(program)[at[left]]
            if taken is None and not program.guards.of_rows:  # once for all steps
                holds = program.guards.hold(uniforms[0], columns).expand(len(left))
            else:
                holds = program.guards.hold_in(uniforms, columns, taken)
            found[left[holds.cpu()]] = number
        raise AssertionError  # it counts for ever

    def sort(
        self, minibatches: Minibatches, first: int, count: int, rows: Rows
    ) -> list[tuple[Kind, Tensor, Tensor | None]]:
        """Which steps are of which kind.

        Args:
            first: The first of them.
            count: n.
            rows: A program → (n, u): the rows that its plates draw in these steps, among zeros.

        Returns:
            For each kind that there is: the places of its steps among these, and their rows.
        """
        if not self._looked_ahead:
            self._looked_ahead = True
            self._look_ahead(minibatches, first)
        data, (indices, which) = minibatches.data(first), minibatches.ahead(first, count)
        found: list[tuple[Kind, Tensor, Tensor | None]] = []
        for place, (size, index) in enumerate(zip(minibatches.sizes, indices, strict=True)):
            at = torch.arange(count, device="cpu") if which is None else (which == place).nonzero().flatten()
            numbers = self.numbers(size, data, index, rows, at)
            for number in numbers.unique().tolist():
                mine = numbers == number
                found.append(((size, number), at[mine], index if index is None or mine.all() else index[mine]))
        return found

    def _look_ahead(self, minibatches: Minibatches, first: int) -> None:
        """Raises `CaptureFailed` where the next steps read more values than there can be programs for, before these are made and compiled."""
        program = self.of(size := minibatches.sizes[0])
        if program.guards is None or (size is None and not program.guards.of_rows):
            return
        data, steps = minibatches.data(first), min(AHEAD, minibatches.room(first)) if self._data.stored else AHEAD
        index = minibatches.ahead(first, int(steps))[0][0]
        read = {
            program.guards.values(uniforms, data.batch(self._pair.model, rows).args)
            for uniforms, rows in zip(
                self._rows(program, first, AHEAD), [None] * AHEAD if index is None else index, strict=False
            )
        }
        if len(read) > VALUES:
            raise CaptureFailed(KEEPS_READING.format(pair=self._pair.name, line=program.guards.line, count=VALUES))

    def renew(self, size: int | None, changed: str) -> None:
        """Forgets them and makes the first anew, because places that are read have changed."""
        still = self.of(size).still
        self.made.clear()
        if self.of(size).still != still:
            raise CaptureFailed(
                f"Pair {self._pair.name!r} gives gradients to different parameters since {changed} has changed, which a compiled program can't do."
            )

    def differ(self, stacked: bool) -> bool:
        """Whether fits side by side could need different ones for a step.

        Args:
            stacked: Whether each fit has its own data.
        """
        return any(
            program.guards and (stacked or size is not None or program.guards.of_rows)
            for (size, _), program in self.made.items()
        )


def _one_of(rows: Rows, place: int, program: Program) -> Tensor:
    return rows(program)[place]
