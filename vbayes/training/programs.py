"""The programs captured for the steps of a fit."""

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
"""The number of rows in a minibatch (None for all), and the number of the program among those for that many rows, which differ in the values of the rows that model and guide read."""
AHEAD = 64  # steps
Rows = Callable[[Program], Tensor]


class Programs:
    """The programs for each kind of minibatch, made when they are needed.

    Args:
        pair, estimator: The pair and estimator to capture.
        data: The whole data set.
        rows: (program, step, n) → (n, u): the rows that its plates draw in n steps, among zeros.

    Attributes:
        made: The programs made so far.
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
            data: The data of the rows, if these change from epoch to epoch.
            drawn: As for `stage`; for the first step if None.

        Raises:
            CaptureFailed: As for `stage`; or the maximum number of programs is not enough, or they differ in more than the values built in.
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
        """(n,) the number of the program that is valid for each of n steps with this number of rows, on the CPU.

        Args:
            data: The data from which the steps take their rows.
            index: (n, M) those rows; None for all rows in each step.
            rows: See `sort`.
            at: (n,) positions of the steps among those of `rows`.
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
        raise AssertionError  # unreachable, as the loop is infinite

    def sort(
        self, minibatches: Minibatches, first: int, count: int, rows: Rows
    ) -> list[tuple[Kind, Tensor, Tensor | None]]:
        """Sorts steps by kind of minibatch.

        Args:
            first: The first step.
            count: n, the number of steps.
            rows: A program → (n, u): the rows that its plates draw in these steps, among zeros.

        Returns:
            For each kind that occurs: the positions of its steps among these, and their rows.
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
        """Raises `CaptureFailed` if the next steps read more different values than the maximum number of programs, before these are made and compiled."""
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
        """Drops all programs and makes the first one again, because values that they have built in have changed."""
        still = self.of(size).still
        self.made.clear()
        if self.of(size).still != still:
            raise CaptureFailed(
                f"Pair {self._pair.name!r} gives gradients to different parameters since {changed} has changed, which a compiled program can't do."
            )

    def differ(self, stacked: bool) -> bool:
        """Whether fits that are trained in parallel could need different programs for the same step.

        Args:
            stacked: Whether each fit has its own data.
        """
        return any(
            program.guards and (stacked or size is not None or program.guards.of_rows)
            for (size, _), program in self.made.items()
        )


def _one_of(rows: Rows, place: int, program: Program) -> Tensor:
    return rows(program)[place]
