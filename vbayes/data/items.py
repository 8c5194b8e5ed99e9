"""torch's own data sets and loaders: rows that are made one by one, as pictures that are opened and transformed."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from .. import rng
from ..arguments.kind import refuse
from ..errors import BadData
from .rows_of_loader import rows_of_loader
from .stored import Numbers, Stored

TOGETHER = 256  # rows that a worker process makes in one go


def columns_of_items(data: Any) -> tuple[Any, bool] | None:
    """Columns of a torch `Dataset` or `DataLoader`, whose rows are made when a fit comes to them; None of anything else.

    A loader's worker processes make them, a window of rows at a time; its order is not asked for.

    Returns:
        Column → a `Stored`, or what the tensors of a `TensorDataset` are; and whether the columns have names.

    Raises:
        BadData: A stream, rows that are not tensors, or a loader that does not take each of its rows once.
    """
    if not isinstance(data, (Dataset, DataLoader)):
        return None
    items: Any = data.dataset if isinstance(data, DataLoader) else data
    if isinstance(items, IterableDataset) or not hasattr(items, "__len__") or not hasattr(items, "__getitem__"):
        _refuse(
            "a stream, of which nobody knows how many rows there are, while a minibatch speaks for all N of them",
            "a torch Dataset with len(data) and data[i], or an array of rows that were collected from the stream",
        )
    collate, workers, chosen = default_collate, 0, None
    if isinstance(data, DataLoader):
        workers, chosen = data.num_workers, rows_of_loader(data)
        collate = collate if data.batch_sampler is None else data.collate_fn
    if isinstance(items, TensorDataset) and collate is default_collate:
        return items.tensors if chosen is None else tuple(each[chosen] for each in items.tensors), False
    items = items if chosen is None else Subset(items, chosen)
    if not len(items):
        _refuse("empty", "at least one row")
    look = _Rows(items, collate, 0)
    some = {row: look.made(np.array([row])) for row in (0, len(items) // 2, len(items) - 1)}
    rows = _Rows(items, collate, workers)
    return {name: _column(rows, name, some) for name in some[0]}, look.named


class _Rows:
    """Rows of all columns, made together: a transform of a picture and its mask is drawn once for both."""

    def __init__(self, items: Any, collate: Any, workers: int) -> None:
        self.items, self.workers, self._collate = items, workers, _Collated(collate)
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


class _Collated:
    """Rows put together, or an error of ours; a class, since it goes to worker processes."""

    def __init__(self, collate: Any) -> None:
        self._collate = collate

    def __call__(self, rows: Sequence[Any]) -> Any:
        try:
            return self._collate(rows)
        except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
            _refuse(
                f"of rows that can't be put together ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
                "rows of the same columns, each a tensor of one shape or a number; a transform to those",
            )


def _column(rows: _Rows, name: str, some: Mapping[int, Mapping[str, Tensor]]) -> Stored:
    """One column, of the kind that some of its rows have together."""
    firsts = [each[name] for each in some.values() if name in each]
    if len(firsts) < len(some) or len({each.shape for each in firsts}) > 1:
        shapes = ", ".join(
            f"{tuple(each[name].shape[1:])} in row {row}" if name in each else f"none in row {row}"
            for row, each in some.items()
        )
        _refuse(f"of rows with another {name!r} each: {shapes}", "rows of the same columns, each of one shape")
    kind = functools.reduce(torch.promote_types, (each.dtype for each in firsts))

    def take(chosen: Numbers, out: Numbers) -> None:
        made = rows.made(chosen).get(name)
        if made is None or made.shape[1:] != firsts[0].shape[1:]:
            _refuse(
                f"of rows of which some have no {name!r} of shape {tuple(firsts[0].shape[1:])}",
                "the same columns in each row",
            )
        if torch.promote_types(made.dtype, kind) != kind and not (made.is_floating_point() and kind.is_floating_point):
            _refuse(
                f"of rows with {_words(kind)} for {name!r} at first, and {_words(made.dtype)} further on, which would lose what they have more",
                f"one kind of number in all rows, as float({name})",
            )
        np.copyto(out, made.numpy(), casting="unsafe")

    shape = (len(rows.items), *firsts[0].shape[1:])
    # In the steps' own thread: torch tells the main thread of a worker process that has died, wherever it is then, and transforms draw from its generator.
    return Stored(None, shape, kind, take=take, background=False)


def _words(kind: torch.dtype) -> str:
    if kind == torch.bool:
        return "true and false"
    return "real numbers" if kind.is_floating_point else "whole numbers"


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
