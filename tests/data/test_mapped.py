"""Rows of a memory-mapped array come from its file, as the map has them."""

from __future__ import annotations

import os

import numpy as np
import pytest

from vbayes.data import mapped
from vbayes.errors import DataUnavailable

X = np.random.default_rng(0).normal(size=(57, 3))


def saved(folder, values, mode="r"):
    np.save(folder / "x.npy", values)
    return np.load(folder / "x.npy", mmap_mode=mode)


def reader(values):
    return mapped.rows_of_map(values, mapped.map_of(values))


def read(values, dtype="f8"):
    """Rows 5 to 24."""
    out = np.empty((20, *values.shape[1:]), dtype)
    reader(values)(5, out)
    return out


@pytest.fixture
def from_files(monkeypatch, tmp_path):
    """How often a file was read in place of its map."""
    probe = saved(tmp_path, X)
    if mapped._inode_at(probe.ctypes.data) is None:
        pytest.skip("a system that doesn't say which file is mapped")
    seen, was = [], mapped._from_file
    monkeypatch.setattr(mapped, "_from_file", lambda *given: seen.append(given) or was(*given))
    monkeypatch.setattr(mapped, "PIECE", 100)
    return seen


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f8", "i2", "?"])
def test_any_type_becomes_that_of_the_tensor(dtype, tmp_path, from_files):
    values = (3 * X).astype(dtype)
    assert np.array_equal(read(saved(tmp_path, values), "f4"), values[5:25].astype("f4")) and len(from_files) == 1


VIEWS = {
    "a part": (lambda x: x[5:], 1),
    "of another shape": (lambda x: x.reshape(-1), 1),
    "no memmap any more": (lambda x: np.asarray(x)[3:], 1),
    "some columns": (lambda x: x[:, :2], 0),
    "every other row": (lambda x: x[::2], 0),
}


@pytest.mark.parametrize("view", VIEWS)
def test_views(view, tmp_path, from_files):
    made, files = VIEWS[view]
    assert np.array_equal(read(made(saved(tmp_path, X))), made(X)[5:25]) and len(from_files) == files


def test_what_was_written_to_the_map(tmp_path, from_files):
    shared, own = saved(tmp_path, X, "r+"), np.load(tmp_path / "x.npy", mmap_mode="c")
    own[6], shared[7] = 7.0, 5.0
    found = read(shared)
    assert (found[2] == 5.0).all() and np.array_equal(found[1], X[6]) and len(from_files) == 1
    assert (read(own)[1] == 7.0).all() and len(from_files) == 1, "changes of one's own are not in the file"


def test_another_file_under_its_name(tmp_path, from_files):
    values = saved(tmp_path, X)
    np.save(tmp_path / "other.npy", -X)
    os.replace(tmp_path / "other.npy", tmp_path / "x.npy")
    assert np.array_equal(read(values), X[5:25]) and not from_files
    os.remove(tmp_path / "x.npy")
    assert np.array_equal(read(values), X[5:25]) and not from_files


def test_a_file_that_was_cut_off(tmp_path, from_files):
    take = reader(saved(tmp_path, X))
    os.truncate(tmp_path / "x.npy", 500)
    with pytest.raises(DataUnavailable, match="x.npy has become shorter"):
        take(30, np.empty((10, 3)))


def test_no_file_is_left_open(tmp_path, from_files):
    before = len(os.listdir("/proc/self/fd"))
    take = reader(saved(tmp_path, X))
    assert len(os.listdir("/proc/self/fd")) > before
    del take
    from_files.clear()
    assert len(os.listdir("/proc/self/fd")) == before
