"""Rows read from disk while a fit trains: each once in an epoch, the same whatever reads them, and the fit is that of the data."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal

import vbayes as vb
from vbayes.data import stored
from vbayes.training import windows
from vbayes.training.identity import _hash
from vbayes.training.minibatches import Minibatches

N, M = 103, 10
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
Y = (X @ [1.0, -1.0, 0.5] + RNG.normal(size=N)).astype("f4")


def model(x, y):
    w = pyro.sample("w", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    """Windows of 40 rows, in blocks of 4."""
    monkeypatch.setattr(stored, "WHOLE", 0)
    monkeypatch.setattr(stored, "BLOCK", 4 * 4 * 4)
    monkeypatch.setattr(windows, "BYTES", 40 * 4 * 4)


def memmap(folder):
    for name, values in (("x", X), ("y", Y)):
        np.save(folder / f"{name}.npy", values)
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("x", "y")}


def hdf5(folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "data.h5", "w") as file:
        file.create_dataset("x", data=X.astype(">f8"), chunks=(2, 3))
        file.create_dataset("y", data=Y)
    return h5py.File(folder / "data.h5", "r")


def zarr(folder):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(folder / "data.zarr", mode="w")
    for name, values in (("x", X), ("y", Y)):
        group.create_array(name, data=values, chunks=(2, *values.shape[1:]))
    return zarr.open_group(folder / "data.zarr", mode="r")


def xarray(folder):
    xr = pytest.importorskip("xarray")
    xr.Dataset({"y": ("obs", Y), "x": (("obs", "feature"), X)}).to_netcdf(folder / "data.nc", engine="h5netcdf")
    return xr.open_dataset(folder / "data.nc", engine="h5netcdf")


KINDS = {"memory-mapped": memmap, "HDF5": hdf5, "zarr": zarr, "xarray": xarray}


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_once_in_an_epoch(kind, tmp_path):
    data = vb.Dataset.of(KINDS[kind](tmp_path))
    assert data.stored and len(data) == N
    minibatches, again = Minibatches(data, M, 1), Minibatches(data, M, 1)
    epochs = []
    for first in (1, 12):
        taken = []
        for step in range(first, first + 11):
            x, y, rows = minibatches.data(step).batch(lambda x, y, rows: None, minibatches.index(step)).args
            assert torch.equal(x, torch.from_numpy(X).float()[rows]) and torch.equal(y, torch.from_numpy(Y)[rows])
            assert minibatches.data(step).batch(model).total == N
            taken.append(rows.tolist())
        assert sorted(itertools.chain(*taken)) == list(range(N)) and list(map(len, taken)) == [M] * 10 + [3]
        epochs.append(taken)
    assert epochs[0] != epochs[1]
    later = again.data(14).batch(lambda rows: None, again.index(14)).args[0]
    assert later.tolist() == epochs[1][2]  # whoever begins there meets the same rows


def test_neighbours_are_read_together_and_far_ones_are_mixed(tmp_path):
    made = windows.Windows(vb.Dataset.of(memmap(tmp_path)), M, 0)
    chosen = [made.chosen(number) for number in range(3)]
    assert [len(rows) for rows in chosen] == [40, 40, 23]
    runs = [(np.diff(rows) != 1).sum() + 1 for rows in chosen]
    assert all(len(rows) / 4 - 2 <= count <= len(rows) / 4 + 2 for rows, count in zip(chosen, runs, strict=True))
    assert all(rows.max() - rows.min() > 60 for rows in chosen[:2])


@pytest.mark.parametrize(
    "compile", ["torch", False, pytest.param("native", marks=[pytest.mark.slow, pytest.mark.on_cpu])]
)
def test_an_epoch_is_worth_what_all_rows_are(compile, tmp_path):
    """At one place: the mean of the minibatches' log-densities is that of the data, in each epoch."""
    whole = vb.Dataset.of({"x": X, "y": Y})
    pair = vb.Pair(model, AutoDelta(model))
    fit = vb.fit(pair, memmap(tmp_path), epochs=2, batch_size=M, learning_rate=1e-12, compile=compile, progress=False)
    per_row = np.array(fit.rows.elbo).reshape(2, 11)
    with fit.pair.look(), torch.no_grad():
        exact = float(fit.pair.run(whole.batch(model))[1].log_prob_sum())
    prior = float(dist.Normal(0.0, 1.0).log_prob(fit.parameters["AutoDelta.w"]).sum())
    shares = np.array([M] * 10 + [N % M]) / N
    assert ((per_row - prior) @ shares + prior) == pytest.approx([exact, exact], rel=1e-4)


def test_it_goes_on_to_the_last_bit(tmp_path):
    data, pair = memmap(tmp_path), vb.Pair(model, AutoDelta(model))
    options = {"batch_size": M, "compile": "torch", "progress": False, "learning_rate": 0.1}
    long = vb.fit(pair, data, steps=30, **options)
    short = vb.fit(pair, data, steps=13, checkpoint=tmp_path / "fit.safetensors", **options)
    assert list(short.resume(steps=17, progress=False).rows.elbo) == list(long.rows.elbo)
    kept = vb.fit(pair, hdf5(tmp_path), steps=30, checkpoint=tmp_path / "fit.safetensors", **options)
    assert list(kept.rows.elbo) == list(long.rows.elbo) and len(kept.rows) == 30


def test_what_it_is_of_does_not_hang_on_where_it_lies(tmp_path):
    assert _hash(vb.Dataset.of(memmap(tmp_path))) == _hash(vb.Dataset.of({"x": X, "y": Y}))


def test_verbs_that_look_at_all_rows_read_them(tmp_path):
    pair = vb.Pair(model, AutoDelta(model))
    fit = vb.fit(pair, memmap(tmp_path), steps=3, batch_size=M, compile=False, progress=False)
    assert fit.data.rows(slice(5, 9)).tensors["x"].shape == (4, 3) and len(fit.data.batch(model).args[1]) == N
    assert vb.check(pair, memmap(tmp_path), show=False) == vb.check(pair, {"x": X, "y": Y}, show=False)


def test_small_ones_are_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "WHOLE", 2**20)
    for kind in (memmap, hdf5):
        assert not vb.Dataset.of(kind(tmp_path)).stored


def test_columns_in_memory_beside(tmp_path):
    data = {**memmap(tmp_path), "y": Y, "who": pd.Series(np.repeat(["a", "b"], [50, 53]))}
    minibatches = Minibatches(vb.Dataset.of(data), M, 0)
    y, who, rows = minibatches.data(5).batch(lambda y, who, rows: None, minibatches.index(5)).args
    assert torch.equal(y, torch.from_numpy(Y)[rows]) and torch.equal(who, (rows >= 50).long())


REFUSED = {
    "all rows at a time": (AutoDelta(model), {}, "batch_size=103"),
    "a guide by a word": (None, {"batch_size": M}, "guide='auto' needs all rows"),
    "restarts": (AutoDelta(model), {"batch_size": M, "restarts": 2}, "restarts=2 needs all rows at once"),
    "binarize": (AutoDelta(model), {"batch_size": M, "binarize": "static"}, "binarize='static' needs all"),
    "scores of all rows": (
        AutoDelta(model),
        {"update": vb.BatchAndMatch()},
        r"update=BatchAndMatch\(.*needs all rows",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_all_rows_at_once(case, tmp_path):
    guide, options, said = REFUSED[case]
    with pytest.raises(vb.errors.BadInput, match=said):
        vb.fit(model, memmap(tmp_path), guide=guide, steps=2, progress=False, **options)


@pytest.mark.parametrize("compile", ["torch", False])
def test_a_gap_further_down_ends_the_fit(compile, tmp_path, monkeypatch):
    monkeypatch.setattr("vbayes.data.gaps.FEW", 10)
    y = Y.copy()
    y[77] = np.nan
    np.save(tmp_path / "y.npy", y)
    data = {"x": X, "y": np.load(tmp_path / "y.npy", mmap_mode="r")}
    with pytest.raises(vb.errors.NonFinite, match="'y'"):
        vb.fit(vb.Pair(model, AutoDelta(model)), data, epochs=1, batch_size=M, compile=compile, progress=False)


def test_natural_gradients(tmp_path):
    """A step of rate r leaves noise of variance r/2 × N/M, in posterior variances: half a variance here."""
    pair, update = vb.Pair(model, AutoMultivariateNormal(model)), vb.NaturalGradient(rate=0.1)
    options = {"steps": 60, "batch_size": M, "devices": 1, "compile": False, "progress": False}
    fit = vb.fit(pair, memmap(tmp_path), update=update, **options)
    precision = X.T @ X + np.eye(3)
    off = fit.parameters["AutoMultivariateNormal.loc"].numpy() - np.linalg.solve(precision, X.T @ Y)
    assert off @ precision @ off < 3 * 5**2 * 0.5
