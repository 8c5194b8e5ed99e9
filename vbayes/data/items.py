"""torch's own data sets and loaders: rows that are made one by one, as pictures that are opened and transformed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from .. import rng
from .collated import TOGETHER, named, refuse_rows
from .stored import Numbers, Stored
from .stream import Stream


def columns_of_items(data: Any, rows: int | None = None) -> tuple[Any, bool] | None:
    """Columns of a torch `Dataset` or `DataLoader`, whose rows are made when a fit comes to them; None of anything else.

    A loader's worker processes make them, a window of rows at a time; its order is not asked for. A stream (`IterableDataset`) is read in its own.

    Args:
        rows: N, of a stream that doesn't say.

    Returns:
        Column → a `Stored`, or what the tensors of a `TensorDataset` are; and whether the columns have names.

    Raises:
        BadData: A stream of unknown length, or rows that are not tensors.
    """
    if not isinstance(data, (Dataset, DataLoader)):
        return None
    items: Any = data.dataset if isinstance(data, DataLoader) else data
    workers = data.num_workers if isinstance(data, DataLoader) else 0
    collate = data.collate_fn if isinstance(data, DataLoader) and data.batch_size is not None else default_collate
    if isinstance(items, TensorDataset):
        return items.tensors, False
    flows = isinstance(items, IterableDataset)
    count = rows if flows and rows is not None else len(items) if hasattr(items, "__len__") else None
    if count is None:
        refuse_rows(
            "a stream, of which nobody knows how many rows there are, while a minibatch speaks for all N of them",
            "vb.Dataset.of(stream, rows=N), with the rows of one pass over it"
            if flows
            else "a torch Dataset with len(data) and data[i]",
        )
    if not count:
        refuse_rows("empty", "at least one row")
    look, made = ((Stream if flows else _Rows)(items, count, collate, each) for each in (0, workers))
    first = look.made(np.arange(1))
    return {name: _column(made, count, name, each, flows) for name, each in first.items()}, look.named


def is_stream(data: Any) -> bool:
    """Whether it is a stream of torch's, or a loader of one."""
    return isinstance(data.dataset if isinstance(data, DataLoader) else data, IterableDataset)


class _Rows:
    """Rows of all columns, made together: a transform of a picture and its mask is drawn once for both."""

    def __init__(self, items: Any, count: int, collate: Any, workers: int) -> None:
        self._items, self._workers, self._collate = items, workers, collate
        self.named = False
        self._held: tuple[bytes, dict[str, Tensor]] | None = None

    def made(self, chosen: Numbers) -> dict[str, Tensor]:
        """Column → (M, ...). What transforms draw is a function of which rows there are, in which order."""
        if self._held is None or self._held[0] != chosen.tobytes():
            seed = zlib.crc32(chosen.tobytes())
            loader: Any = DataLoader(
                Subset(self._items, chosen.tolist()), batch_size=TOGETHER, collate_fn=self._collate, num_workers=self._workers,
                generator=torch.Generator().manual_seed(seed),  # of the worker processes
            )  # fmt: skip
            with nullcontext() if self._workers else rng.seeded(seed):
                made = list(loader)
            self.named, parts = isinstance(made[0], Mapping), [named(part) for part in made]
            self._held = chosen.tobytes(), {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return self._held[1]


def _column(rows: _Rows | Stream, count: int, name: str, first: Tensor, flows: bool) -> Stored:
    def take(chosen: Numbers, out: Numbers) -> None:
        np.copyto(out, rows.made(chosen)[name].numpy(), casting="unsafe")

    # In the steps' own thread: torch tells the main thread of a worker process that has died, wherever it is then, and transforms draw from its generator.
    return Stored(None, (count, *first.shape[1:]), first.dtype, take=take, background=False, in_order=flows)
