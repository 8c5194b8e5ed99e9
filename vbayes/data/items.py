"""torch data sets and loaders, whose rows are made one by one, such as images that are opened and transformed."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from .. import rng
from .collated import TOGETHER, Collated, named, refuse_rows
from .rows_of_loader import rows_of_loader
from .stored import Numbers, Stored
from .stream import Stream


def columns_of_items(data: Any, rows: int | None = None) -> tuple[Any, bool] | None:
    """Columns of a torch `Dataset` or `DataLoader`, whose rows are made when a fit needs them; None for anything else.

    The worker processes of a loader make them, a window of rows at a time; its own order is not used. A stream (`IterableDataset`) is read in order.

    Args:
        rows: Number of rows, N, of a stream of unknown length.

    Returns:
        Column → a `Stored`, or the tensors of a `TensorDataset`; and whether the columns have names.

    Raises:
        BadData: A stream of unknown length, rows that are not tensors, or a loader that does not take each of its rows once.
    """
    if not isinstance(data, (Dataset, DataLoader)):
        return None
    items: Any = data.dataset if isinstance(data, DataLoader) else data
    flows = isinstance(items, IterableDataset)
    collate, workers, chosen = default_collate, 0, None
    if isinstance(data, DataLoader):
        workers, chosen = data.num_workers, None if flows else rows_of_loader(data)
        collate = collate if data.batch_size is None and data.batch_sampler is None else data.collate_fn
    if isinstance(items, TensorDataset) and collate is default_collate:
        return items.tensors if chosen is None else tuple(each[chosen] for each in items.tensors), False
    items = items if chosen is None else Subset(items, chosen)
    count = rows if flows and rows is not None else len(items) if hasattr(items, "__len__") else None
    if count is None:
        refuse_rows(
            "a stream of unknown length, but minibatches must be rescaled to all N rows",
            "vb.Dataset.of(stream, rows=N), with the rows of one pass over it"
            if flows
            else "a torch Dataset with len(data) and data[i]",
        )
    if not count:
        refuse_rows("empty", "at least one row")
    look, made = ((Stream if flows else _Rows)(items, count, Collated(collate), each) for each in (0, workers))
    some = {row: look.made(np.array([row])) for row in ((0,) if flows else (0, count // 2, count - 1))}
    return {name: _column(made, count, name, some, flows) for name in some[0]}, look.named


def is_stream(data: Any) -> bool:
    """Whether it is a torch stream, or a loader of one."""
    return isinstance(data.dataset if isinstance(data, DataLoader) else data, IterableDataset)


class _Rows:
    """Rows of all columns, made together, so that a random transform of a picture and its mask is drawn once for both."""

    def __init__(self, items: Any, count: int, collate: Any, workers: int) -> None:
        self._items, self._workers, self._collate = items, workers, collate
        self.named = False
        self._held: tuple[bytes, dict[str, Tensor]] | None = None

    def made(self, chosen: Numbers) -> dict[str, Tensor]:
        """Column → (M, ...). Random transforms depend only on which rows are made, and in which order."""
        if self._held is None or self._held[0] != chosen.tobytes():
            seed = zlib.crc32(chosen.tobytes())
            loader: Any = DataLoader(
                Subset(self._items, chosen.tolist()), batch_size=TOGETHER, collate_fn=self._collate, num_workers=self._workers,
                generator=torch.Generator().manual_seed(seed),  # options of the worker processes
            )  # fmt: skip
            with nullcontext() if self._workers else rng.seeded(seed):
                made = list(loader)
            self.named, parts = isinstance(made[0], Mapping), [named(part) for part in made]
            self._held = chosen.tobytes(), {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return self._held[1]


def _column(
    rows: _Rows | Stream, count: int, name: str, some: Mapping[int, Mapping[str, Tensor]], flows: bool
) -> Stored:
    """One column, with the common type of some of its rows."""
    firsts = [each[name] for each in some.values() if name in each]
    if len(firsts) < len(some) or len({each.shape for each in firsts}) > 1:
        shapes = ", ".join(
            f"{tuple(each[name].shape[1:])} in row {row}" if name in each else f"none in row {row}"
            for row, each in some.items()
        )
        refuse_rows(f"of rows whose {name!r} differ: {shapes}", "rows with the same columns, each of one shape")
    kind = functools.reduce(torch.promote_types, (each.dtype for each in firsts))

    def take(chosen: Numbers, out: Numbers) -> None:
        made = rows.made(chosen).get(name)
        if made is None or made.shape[1:] != firsts[0].shape[1:]:
            refuse_rows(
                f"of rows of which some have no {name!r} of shape {tuple(firsts[0].shape[1:])}",
                "the same columns in each row",
            )
        if torch.promote_types(made.dtype, kind) != kind and not (made.is_floating_point() and kind.is_floating_point):
            refuse_rows(
                f"of rows with {_words(kind)} for {name!r} at first, and {_words(made.dtype)} later, which can't be converted without loss",
                f"one type of number in all rows, such as float({name})",
            )
        np.copyto(out, made.cpu().numpy(), casting="unsafe")

    # In the thread of the steps: torch interrupts the main thread when a worker process dies, and transforms draw from its generator.
    return Stored(None, (count, *firsts[0].shape[1:]), kind, take=take, background=False, in_order=flows)


def _words(kind: torch.dtype) -> str:
    if kind == torch.bool:
        return "booleans"
    return "real numbers" if kind.is_floating_point else "integers"
