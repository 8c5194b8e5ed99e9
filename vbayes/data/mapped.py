"""Reads rows of a memory-mapped array without letting the memory of the process grow with everything read."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DataUnavailable

Numbers = np.ndarray[Any, Any]
Read = Callable[[int, Numbers], None]
PIECE = 2**18  # bytes that are read before type conversion, so that both copies fit into the CPU's cache


def map_of(values: Any) -> mmap.mmap | None:
    """The memory map that an array is a view of; None for anything else."""
    while isinstance(values, np.ndarray):
        values = values.base
    return values if isinstance(values, mmap.mmap) else None


def rows_of_map(values: Numbers, mapped: mmap.mmap) -> Read:
    """A function that reads rows of a memory-mapped array: from the file itself if available, otherwise through the map.

    Through a map, the system maps and unmaps each page, and has to notify every thread each time.
    """
    root = values
    while isinstance(root.base, np.ndarray):
        root = root.base
    # A copy-on-write map (mode "c") may have changes that are not in the file, and that would be lost.
    shared = getattr(root, "mode", "r") != "c"
    if shared and isinstance(root, np.memmap) and root.filename and values.flags.c_contiguous:
        address, start = (array.__array_interface__["data"][0] for array in (values, root))
        if (descriptor := _opened(str(root.filename), address)) is not None:
            return _from_file(descriptor, str(root.filename), root.offset + address - start, values)

    def read(start: int, out: Numbers) -> None:
        np.copyto(out, values[start : start + len(out)], casting="unsafe")
        if shared and hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_DONTNEED)  # otherwise all pages ever read count as memory of this process

    return read


def _from_file(descriptor: int, name: str, origin: int, values: Numbers) -> Read:
    dtype, shape = values.dtype, values.shape[1:]
    row = dtype.itemsize * int(np.prod(shape, dtype=int))

    def fill(start: int, out: Numbers) -> None:
        left: Any = out.reshape(-1).view(np.uint8)
        at = origin + start * row
        while len(left):
            if not (done := os.preadv(descriptor, [left], at)):
                raise DataUnavailable(f"{name} has become shorter since it was opened. Wanted: the original file.")
            left, at = left[done:], at + done

    def read(start: int, out: Numbers) -> None:
        if out.dtype == dtype and out.flags.c_contiguous:
            return fill(start, out)
        step = max(1, PIECE // row)
        for first in range(0, len(out), step):
            part = out[first : first + step]
            held = np.empty((len(part), *shape), dtype)
            fill(start + first, held)
            np.copyto(part, held, casting="unsafe")

    weakref.finalize(read, os.close, descriptor)
    return read


def _opened(name: str, address: int) -> int | None:
    """The file that is mapped at an address, opened for reading; None if it can't be determined, or another file has its name now."""
    try:
        descriptor = os.open(name, os.O_RDONLY)
    except OSError:
        return None
    if hasattr(os, "preadv") and _inode_at(address) == os.fstat(descriptor).st_ino:
        return descriptor
    os.close(descriptor)
    return None


def _inode_at(address: int) -> int | None:
    """The inode of the file that is mapped there; None if there is none, or the system can't tell."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            for line in maps:
                span, _, _, _, inode, *_ = line.split()
                first, last = (int(end, 16) for end in span.split("-"))
                if first <= address < last:
                    return int(inode)
    except OSError:
        pass  # as on systems other than Linux
    return None
