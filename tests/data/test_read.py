"""Tables in files, whole or larger than what is read at once."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
import torch

import vbayes as vb
from vbayes.data import parquet, stored
from vbayes.training.minibatches import Minibatches

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {"county": ["b", "a", "b", "c"] * 6, "y": RNG.normal(size=24), "x": RNG.normal(size=24), "n": range(24)}
)


def model(y, x, county):
    pass


WRITE = {
    "csv": lambda path: TABLE.to_csv(path),
    "csv.gz": lambda path: TABLE.to_csv(path, index=False),
    "tsv": lambda path: TABLE.to_csv(path, sep="\t"),
    "parquet": lambda path: pytest.importorskip("pyarrow") and TABLE.to_parquet(path),
    "feather": lambda path: pytest.importorskip("pyarrow") and TABLE.to_feather(path),
    "npz": lambda path: np.savez(path, **{k: v.to_numpy().astype("U1") if k == "county" else v.to_numpy() for k, v in TABLE.items()}),
    "npy": lambda path: np.save(path, TABLE.astype({"county": object}).to_records(index=False).astype([("county", "U1"), ("y", float), ("x", float), ("n", int)])),
    "nc": lambda path: TABLE.astype({"county": object}).to_xarray().to_netcdf(path, engine="h5netcdf"),
}  # fmt: skip


@pytest.mark.parametrize("ending", WRITE)
def test_files(ending, tmp_path):
    path = tmp_path / f"radon.{ending}"
    WRITE[ending](path)
    data = vb.data.read(path)
    y, x, county = data.batch(model).args
    assert (
        np.allclose(y, TABLE.y)
        and np.allclose(x, TABLE.x)
        and [data.labels["county"][i] for i in county] == list(TABLE.county)
    )
    assert "n" in data.left_out(model) and (data.name, data.source) == (path.name.split(".")[0], path.name)


def test_columns_are_chosen(tmp_path):
    TABLE.to_csv(tmp_path / "a.csv")
    data = vb.data.read(str(tmp_path / "a.csv"), columns={"X": ["x", "n"], "answer": "y"})
    assert data.tensors["X"].shape == (24, 2) and np.allclose(data.tensors["answer"], TABLE.y)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_numbers_that_are_names(ending, tmp_path):
    """In the order of numbers if all are, else sorted; integers with gaps have no decimals."""
    table = pd.DataFrame({"code": [10, 9, 10], "odd": ["1.5", "?", "1.5"], "gaps": [3, None, 20], "y": [1.0, 2.0, 3.0]})
    path = tmp_path / f"some{ending}"
    if ending == ".csv":
        table.to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        table.to_parquet(path)
    data = vb.data.read(path, categorical=["code", "odd", "gaps"])
    assert data.labels["code"] == ("9", "10") and data.tensors["code"].tolist() == [1, 0, 1]
    assert data.labels["odd"] == ("1.5", "?") and "odd" not in (data.unusable or {})
    assert data.labels["gaps"] == (("3", "20") if ending == ".parquet" else ("3.0", "20.0"))  # as in that file
    with pytest.raises(vb.errors.BadData, match="no column 'cod', which is to be categorical. Did you mean 'code'"):
        vb.data.read(path, categorical=["cod"])
    with pytest.raises(vb.errors.BadInput, match=r"Fix: categorical=\('code',\)"):
        vb.data.read(path, categorical="code")
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(vb.errors.BadInput, match="categorical= is not supported"):
        vb.data.read(tmp_path / "x.npy", categorical=["x"])


def test_one_array_goes_to_whatever_the_model_calls_it(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((3, 2, 2)))
    assert vb.data.read(tmp_path / "images.npy").batch(lambda images: None).args[0].shape == (3, 2, 2)


def large(monkeypatch, path):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(parquet, "WHOLE", 0)
    monkeypatch.setattr(parquet, "NAMES", 5)
    monkeypatch.setattr(stored, "BLOCK", 16)
    kind = pd.Categorical(TABLE.county.where(TABLE.n != 9), categories=["z", "c", "b", "a"])
    gappy = TABLE.n.astype("Int64").where(TABLE.n != 9)
    TABLE.assign(flag=TABLE.x > 0, gappy=gappy, kind=kind, id=TABLE.n.astype(str)).to_parquet(path, row_group_size=5)


def test_integers_that_are_names_in_a_large_file(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(parquet, "WHOLE", 0)
    TABLE.assign(code=8 + TABLE.n % 3).to_parquet(tmp_path / "a.parquet", row_group_size=5)
    data = vb.data.read(tmp_path / "a.parquet", categorical=["code"])
    assert data.labels["code"] == ("8", "9", "10") and data.tensors["code"][:4].tolist() == [0, 1, 2, 0]
    assert data.stored


def test_larger_than_what_is_read_at_once(tmp_path, monkeypatch):
    large(monkeypatch, tmp_path / "a.parquet")
    data = vb.data.read(tmp_path / "a.parquet")
    assert data.stored and data.unusable.keys() == {"id"}
    assert data.tensors["n"][torch.tensor([7, 3, 23])].tolist() == [7, 3, 23]
    assert np.allclose(data.tensors["x"][:], TABLE.x) and data.tensors["flag"][3:17].tolist() == list(TABLE.x > 0)[3:17]
    assert data.tensors["gappy"][8:11].isnan().tolist() == [False, True, False]
    assert (data.labels["county"], data.labels["kind"]) == (("a", "b", "c"), ("z", "c", "b", "a"))
    assert [data.labels["county"][code] for code in data.batch(model).args[2]] == list(TABLE.county)
    whole = pd.Categorical(TABLE.county, categories=data.labels["kind"]).codes
    assert data.tensors["kind"].isnan().nonzero().tolist() == [[9]] and np.array_equal(
        data.tensors["kind"].numpy()[10:], whole[10:]
    )
    with pytest.raises(
        vb.errors.BadData, match="'id' of .* holds (large_)?string, more than 5 distinct ones, and the file is larger"
    ):
        data.batch(lambda y, id: None)
    some = vb.data.read(tmp_path / "a.parquet", columns={"X": ["x", "n"], "y": "y"})
    minibatches = Minibatches(some, 5, 0)
    for step in range(1, 6):
        X, y, rows = minibatches.data(step).batch(lambda X, y, rows: None, minibatches.index(step)).args
        assert np.allclose(X, TABLE[["x", "n"]].iloc[rows.tolist()]) and np.allclose(y, TABLE.y.iloc[rows.tolist()])


BAD = {
    "nothing there": ("none.csv", None, vb.errors.DataUnavailable, "There is no file or folder .*none.csv"),
    "another ending": ("a.xlsx", b"", vb.errors.BadInput, "ends in '.xlsx'. Wanted: .csv"),
    "no ending": ("a", b"", vb.errors.BadInput, "ends in ''"),
    "damaged": (
        "a.csv.gz",
        gzip.compress(b"x,y\n1,2\n" * 999)[:40],
        vb.errors.DataUnavailable,
        "can't be read as .csv",
    ),
    "damaged numbers": ("a.npy", b"\x93NUMPY", vb.errors.DataUnavailable, "can't be read as .npy"),
    "empty": ("a.csv", b"", vb.errors.DataUnavailable, "can't be read as .csv"),
    "no rows": ("a.csv", b"x,y\n", vb.errors.BadData, "is empty: 0 rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_are_none(case, tmp_path):
    name, content, error, said = BAD[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=said):
        vb.data.read(tmp_path / name)


def test_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(vb.errors.DataUnavailable, match="can't be read as .npy"):
        vb.data.read(tmp_path / "a.npy")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_column_that_is_not_there(ending, tmp_path):
    WRITE[ending](tmp_path / f"a.{ending}")
    with pytest.raises(vb.errors.BadData, match="has no column 'z'. Its columns: .*county"):
        vb.data.read(tmp_path / f"a.{ending}", columns={"x": ["x", "z"]})
