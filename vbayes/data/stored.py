"""Columns larger than memory, whose rows are read on demand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .mapped import Numbers, Read, map_of, rows_of_map

Take = Callable[[Numbers, Numbers], None]

WHOLE = 2**28  # maximum size in bytes of a column that is read at once, as an array in memory supports everything
BLOCK = (
    2**22
)  # approximate number of bytes read at a time: neighbouring rows on disk, which a pass over the data takes together


class Stored:
    """A column of N rows that are stored elsewhere. It has the shape attributes of a tensor, and indexing returns tensors.

    Args:
        read: Function (first row, array) that fills the array with consecutive rows.
        shape: (N, ...).
        dtype: Type of the tensors; torch's default for real numbers.
        chunk: Number of rows that can only be read together.
        device: Device of the tensors.
        take: Function (row numbers, array) that reads these rows, if there is a better way than reading runs of rows.
        background: Whether another thread may read.
        in_order: Whether rows can only be read in order, pass after pass; row N is then the first one of the second pass.
    """

    def __init__(
        self, read: Read | None, shape: Sequence[int], dtype: torch.dtype, chunk: int = 1, *, device: Any = "cpu",
        take: Take | None = None, background: bool = True, in_order: bool = False,
    ) -> None:  # fmt: skip
        self._read, self._take, self.background, self.in_order = read, take, background, in_order
        self.shape, self.chunk, self.device = torch.Size(shape), chunk, torch.device(device)
        self.dtype = torch.get_default_dtype() if dtype.is_floating_point else dtype
        self.requires_grad = False

    def __len__(self) -> int:
        return self.shape[0]

    def dim(self) -> int:
        return len(self.shape)

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point

    @property
    def row_bytes(self) -> int:
        """Bytes of a row's tensor."""
        return int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def to(self, device: Any) -> Stored:
        """The same column with its tensors on another device."""
        made = copy.copy(self)
        made.device = torch.device(device)
        return made

    def __getitem__(self, index: Any) -> Tensor:
        """The rows of a slice, or of row numbers (M,)."""
        if isinstance(index, slice):
            chosen = np.arange(len(self))[index]
        elif isinstance(index, Tensor):
            chosen = (index.nonzero().flatten() if index.dtype == torch.bool else index).cpu().numpy() % len(self)
        else:
            chosen = np.arange(len(self))[index]
        made = torch.empty((len(chosen), *self.shape[1:]), dtype=self.dtype, device="cpu")
        self.into(made, chosen)
        return made.to(self.device)

    def into(self, made: Tensor, chosen: Numbers) -> None:
        """Writes rows, given their numbers, to the beginning of a tensor on the CPU."""
        out = made.numpy()
        if self._take is not None:
            self._take(chosen, out[: len(chosen)])
            return
        assert self._read is not None
        ends = [*(np.flatnonzero(np.diff(chosen) != 1) + 1).tolist(), len(chosen)]
        first, most = 0, block_of([self])
        for last in ends:  # runs of neighbours, a block at a time
            for begin in range(first, last, most):
                self._read(int(chosen[begin]), out[begin : min(begin + most, last)])
            first = last


def stored_or_whole(values: Any) -> Any:
    """An array on disk as a `Stored`, or as an array in memory if it is small; anything else unchanged.

    Args:
        values: A memory-mapped array, or one of h5py, zarr, dask or xarray.
    """
    mapped = map_of(values)
    origin = type(values).__module__.split(".")[0]
    if mapped is None and not (
        origin in ("h5py", "zarr", "dask", "xarray") and hasattr(values, "shape") and hasattr(values, "dtype")
    ):
        return values
    if values.ndim == 0 or np.dtype(values.dtype).kind not in "biuf" or values.size * values.dtype.itemsize <= WHOLE:
        return np.array(values) if mapped is not None else np.asarray(values[...])
    chunks = getattr(values, "chunks", None)
    read = _by_index(values) if mapped is None else rows_of_map(values, mapped)
    dtype = torch.from_numpy(np.empty(0, values.dtype.newbyteorder("="))).dtype
    return Stored(read, values.shape, dtype, int(np.ravel(chunks[0])[0]) if chunks else 1)


def _by_index(values: Any) -> Read:
    return lambda start, out: np.copyto(out, values[start : start + len(out)], casting="unsafe")


def block_of(columns: Sequence[Stored]) -> int:
    """Number of rows read at a time: whole chunks, if the widest column has chunks; one, if rows are made one by one."""
    if any(column._take for column in columns):
        return 1
    rows = BLOCK // max(1, sum(column.row_bytes for column in columns))
    chunk = max(columns, key=lambda column: column.row_bytes).chunk
    return max(1, -(-rows // chunk)) * chunk
