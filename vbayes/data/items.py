"""torch's own data sets and loaders: rows that are made one by one, as pictures that are opened and transformed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from .. import rng
from ..arguments.kind import refuse
from ..errors import BadData
from .stored import Numbers, Stored

TOGETHER = 256  # rows that a worker process makes in one go


def columns_of_items(data: Any) -> tuple[Any, bool] | None:
    """Columns of a torch `Dataset` or `DataLoader`, whose rows are made when a fit comes to them; None of anything else.

    A loader's worker processes make them, a window of rows at a time; its order is not asked for.

    Returns:
        Column → a `Stored`, or what the tensors of a `TensorDataset` are; and whether the columns have names.

    Raises:
        BadData: A stream, or rows that are not tensors.
    """
    if not isinstance(data, (Dataset, DataLoader)):
        return None
    items: Any = data.dataset if isinstance(data, DataLoader) else data
    workers = data.num_workers if isinstance(data, DataLoader) else 0
    collate = data.collate_fn if isinstance(data, DataLoader) and data.batch_size is not None else default_collate
    if isinstance(items, IterableDataset) or not hasattr(items, "__len__") or not hasattr(items, "__getitem__"):
        _refuse(
            "a stream, of which nobody knows how many rows there are, while a minibatch speaks for all N of them",
            "a torch Dataset with len(data) and data[i], or an array of rows that were collected from the stream",
        )
    if isinstance(items, TensorDataset):
        return items.tensors, False
    if not len(items):
        _refuse("empty", "at least one row")
    look = _Rows(items, collate, 0)
    first, named = look.made(np.arange(1)), look.named
    rows = _Rows(items, collate, workers)
    found = {name: _column(rows, name, each) for name, each in first.items()}
    return found, named


class _Rows:
    """Rows of all columns, made together: a transform of a picture and its mask is drawn once for both."""

    def __init__(self, items: Any, collate: Any, workers: int) -> None:
        self.items, self.workers, self._collate = items, workers, collate
        self.named = False
        self._held: tuple[bytes, dict[str, Tensor]] | None = None

    def made(self, chosen: Numbers) -> dict[str, Tensor]:
        """Column → (M, ...). What transforms draw is a function of which rows there are, in which order."""
        if self._held is None or self._held[0] != chosen.tobytes():
            seed = zlib.crc32(chosen.tobytes())
            loader: Any = DataLoader(
                Subset(self.items, chosen.tolist()), batch_size=TOGETHER, collate_fn=self._collate, num_workers=self.workers,
                generator=torch.Generator().manual_seed(seed),  # of the worker processes
            )  # fmt: skip
            with nullcontext() if self.workers else rng.seeded(seed):
                made = list(loader)
            self.named, parts = isinstance(made[0], Mapping), [_named(part) for part in made]
            self._held = chosen.tobytes(), {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return self._held[1]


def _column(rows: _Rows, name: str, first: Tensor) -> Stored:
    def take(chosen: Numbers, out: Numbers) -> None:
        np.copyto(out, rows.made(chosen)[name].numpy(), casting="unsafe")

    shape = (len(rows.items), *first.shape[1:])
    # In the steps' own thread: torch tells the main thread of a worker process that has died, wherever it is then, and transforms draw from its generator.
    return Stored(None, shape, first.dtype, take=take, background=False)


def _named(row: Any) -> dict[str, Tensor]:
    if isinstance(row, Mapping):
        found = {str(name): each for name, each in row.items()}
    elif isinstance(row, (tuple, list)):
        found = {f"x{i}" if i else "x": each for i, each in enumerate(row)}
    else:
        found = {"x": row}
    for name, each in found.items():
        if not isinstance(each, Tensor):
            _refuse(
                f"of rows with {type(each).__name__} for {name!r}",
                "tensors of one shape: a transform to a tensor, as torchvision's ToTensor()",
            )
    return found


def _refuse(got: str, mend: str) -> NoReturn:
    refuse(
        "data",
        object(),
        got=got,
        wanted="rows (tensors, tuples or mappings of them) by their numbers",
        mend=mend,
        error=BadData,
    )
