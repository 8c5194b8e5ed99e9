"""torch streams (`IterableDataset`): rows in a fixed order, with a given number of rows per pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .. import rng
from .collated import TOGETHER, named, refuse_rows
from .stored import Numbers


class Stream:
    """Rows of all columns by number; row N is the first one of the second pass.

    Its draws depend only on the pass and the position in it, so that a resumed fit gets the same rows.

    Args:
        items: The stream, which is iterated over again in each pass.
        count: Number of rows in each pass, N.
        collate: Function that collates rows.
        workers: Number of worker processes.
    """

    def __init__(self, items: Any, count: int, collate: Any, workers: int) -> None:
        self._items, self._count, self._collate, self._workers = items, count, collate, workers
        self.named = False
        self._blocks = -(-count // TOGETHER)  # in a pass
        self._at, self._block = -1, dict[str, Tensor]()
        self._rest: Iterator[dict[str, Tensor]] = iter(())
        self._held: tuple[bytes, dict[str, Tensor]] | None = None

    def made(self, chosen: Numbers) -> dict[str, Tensor]:
        """Column → (M, ...). Rows are read once, in order; to read earlier rows, their pass begins again.

        Raises:
            BadData: A pass has more or fewer rows than N.
        """
        if self._held is None or self._held[0] != chosen.tobytes():
            number, place = np.divmod(chosen, self._count)
            block = number * self._blocks + place // TOGETHER
            order = np.argsort(block, kind="stable")
            parts = []
            for mine in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
                rows = torch.as_tensor(place[mine] % TOGETHER, device="cpu")
                parts.append({name: each[rows] for name, each in self._read(int(block[mine[0]])).items()})
            back = torch.as_tensor(np.argsort(order), device="cpu")
            found = {name: torch.cat([part[name] for part in parts])[back] for name in parts[0]}
            self._held = chosen.tobytes(), found
        return self._held[1]

    def _read(self, block: int) -> dict[str, Tensor]:
        number = block // self._blocks
        if block < self._at or number != self._at // self._blocks:
            self._at, self._rest = number * self._blocks - 1, self._pass(number)
        while self._at < block:
            # The loader's generator seeds the draws of worker processes.
            try:
                with nullcontext() if self._workers else rng.seeded(rng.child(self._at + 1)):
                    self._block = next(self._rest)
            except BaseException:  # this iterator is exhausted; further reads begin the pass again
                self._at, self._rest = -1, iter(())
                raise
            self._at += 1
        return self._block

    def _pass(self, number: int) -> Iterator[dict[str, Tensor]]:
        """Yields a given number of rows at a time; the last ones after the stream has ended."""
        generator = torch.Generator().manual_seed(number)
        loader: Any = DataLoader(
            self._items, TOGETHER, collate_fn=self._collate, num_workers=self._workers, generator=generator
        )
        found, held = 0, dict[str, Tensor]()
        for each in loader:
            self.named, part = isinstance(each, Mapping), named(each)
            held = {name: torch.cat([held[name], more]) for name, more in part.items()} if held else part
            found += len(next(iter(part.values())))
            if found > self._count:
                self._refuse(f"with more than rows={self._count} in a pass")
            while len(next(iter(held.values()))) > TOGETHER:
                yield {name: rows[:TOGETHER] for name, rows in held.items()}
                held = {name: rows[TOGETHER:] for name, rows in held.items()}
        if found < self._count:
            self._refuse(f"that ends after {found} rows in place of rows={self._count}")
        yield held

    def _refuse(self, got: str) -> NoReturn:
        refuse_rows(
            f"a stream {got}",
            "rows=N, the number of rows in every pass; for an infinite stream, a part of it: itertools.islice(rows, N)",
        )
