"""Reads tables from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..arguments.choice import TEXT
from ..arguments.kind import Anything, Several
from ..arguments.takes import takes
from ..errors import BadData, BadInput, DataUnavailable, absent
from .categories import categories
from .dataset import Dataset
from .given import columns_given
from .parquet import Columns, read_parquet

ENDINGS = ".csv, .tsv (also compressed: .csv.gz), .parquet, .feather, .npz, .npy, .nc, .h5, .zarr"


@takes(columns=Anything(), categorical=Several(TEXT, 0))
def read_table(path: str | Path, *, columns: Columns | None = None, categorical: Sequence[str] = ()) -> Dataset:
    """Reads a data set from a file, whose columns are passed to a model's arguments by name.

    Arrays of `.npy`, `.nc`, `.h5` and `.zarr` and columns of `.parquet` that are larger than 256 MiB stay in the file: `vb.fit(..., batch_size=...)` reads their rows
    during training. A Parquet file is read by row groups, which should be small, such as `row_group_size=100_000`.

    Args:
        path: Path of the file; its extension gives the format.
        columns: Argument of the model → a column, or several as a matrix (N, k); if None, each column under its own name. For CSV, Parquet and Feather.
        categorical: Columns of the file that name groups although they look like numbers, such as postcodes: they become labels, as text in the file, in numerical order if all are
            numbers. Other text is labels anyway. For CSV, Parquet and Feather.

    Raises:
        DataUnavailable: The file does not exist, or is damaged.
        BadInput: The format is not supported, or its library is not installed.
        BadData: The file does not have the requested columns.

    Examples:
        >>> vb.fit(model, vb.data.read("radon.csv"))
        >>> vb.fit(model, vb.data.read("claims.csv", categorical=["postcode"]))
        >>> vb.data.read("clicks.parquet", columns={"x": [f"x{i}" for i in range(100)], "y": "y"})
    """
    path = Path(path)
    if missing := absent(path):
        raise DataUnavailable(f"{missing} Wanted: a table ({ENDINGS}).")
    endings = [ending for ending in path.suffixes if ending not in (".gz", ".bz2", ".xz", ".zip", ".zst")]
    ending = endings[-1].lower() if endings else ""
    try:
        found, refused = (
            read_parquet(path, columns, categorical)
            if ending in (".parquet", ".pq")
            else (_read(path, ending, columns, categorical), {})
        )
    except ImportError as error:
        library = str(error.name or "pyarrow").split(".")[0]
        raise BadInput(
            f"{path} needs {library}, which is not installed. Fix: pip install 'vbayes[tables]', or write the table as CSV."
        ) from error
    except (BadData, BadInput, DataUnavailable):
        raise
    except Exception as error:  # anything that the reader raises
        raise DataUnavailable(
            f"{path} can't be read as {ending}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}. Wanted: an undamaged file of that format."
        ) from error
    made = columns_given(found, {})
    if made.get("named", True):  # otherwise it is a single array, for the model's argument of any name
        made["unusable"] = {**(made.get("unusable") or {}), **refused}
    return Dataset(**made, name=path.name.split(".")[0], source=path.name)


def _read(path: Path, ending: str, columns: Columns | None, categorical: Sequence[str]) -> Any:
    if ending in (".csv", ".tsv"):
        table = pd.read_csv(path, sep="," if ending == ".csv" else "\t", dtype=dict.fromkeys(categorical, "str"))
        return _chosen(categories(table, categorical, path), path, columns)
    if ending in (".feather", ".arrow"):
        return _chosen(categories(pd.read_feather(path), categorical, path), path, columns)
    if columns is not None or categorical:
        raise BadInput(
            f"{'categorical' if columns is None else 'columns'}= is not supported for {path}. Wanted: a CSV, Parquet or Feather file; for {ending}, use the arrays as they are, or a mapping of them."
        )
    if ending == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    if ending == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    if ending == ".nc":
        import xarray

        return xarray.open_dataset(path, engine="h5netcdf")
    if ending in (".h5", ".hdf5"):
        import h5py

        return {name: each for name, each in h5py.File(path, "r").items() if hasattr(each, "shape")}
    if ending == ".zarr":
        import zarr

        return zarr.open_group(path, mode="r")
    raise BadInput(f"{path} ends in {ending!r}. Wanted: {ENDINGS}.")


def _chosen(table: pd.DataFrame, path: Path, columns: Columns | None) -> Any:
    if columns is None:
        return table
    named = {each for own in columns.values() for each in ([own] if isinstance(own, str) else own)}
    if lacking := sorted(named - set(table.columns)):
        raise BadData(
            f"{path} has no column {lacking[0]!r}. Its columns: {', '.join(map(str, table.columns))}. Wanted: names of existing columns in columns=."
        )
    return {name: table[own if isinstance(own, str) else list(own)] for name, own in columns.items()}
