"""`vbayes predict`: predictions for new rows from a saved fit."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from ..data import read_table
from ..data.dataset import Dataset
from ..errors import BadInput, OutputUnwritable, absent
from ..inference.prediction import NOT_TO_BE_USED, Prediction
from ..runs import regular_file
from ..runs.json_files import read_json, write_json
from ..runs.picture import save_figure
from ..runs.report import report
from ..runs.run_folder import whole
from ..runs.shapes import TEXT, check
from ..training.result import Fit
from .commands import find
from .job import Job, digest_of
from .keep import FIT
from .options import names

TABLE = "predictions.csv"
KINDS = (".csv", ".parquet")


def predict(
    folder: Path,
    data: Path,
    pair: str | None,
    *,
    draws: int,
    interval: float,
    seed: int,
    out: Path | None,
    may_run: Callable[[str], bool],
) -> tuple[Prediction, pd.DataFrame, Path]:
    """Predicts new rows; returns the prediction, its table, and the path of the table.

    Args:
        folder: Run folder of `vbayes train`.
        data: A table with the new rows.
        pair: `package.module:name` or `file.py:name`, for a fit of a pair that is not built in; None to ask.
        draws, interval, seed: As for `vb.predict`.
        out: File for the table; if None, `predictions.csv` in the folder, with a figure and the page.
        may_run: Asks whether to run the pair that the folder names, as it is code; a run folder alone never causes code to run.

    Raises:
        BadInput: There is no fit, the pair is not that of the fit, the data of the fit have changed, or the file extension is not that of a table.
        OutputUnwritable: The table can't be written.
    """
    target = out or folder / TABLE
    if out is not None:
        _require_writable(out)
    told, job, fit = _fit(folder, pair, may_run)
    new = _read(data, names(_declared(told) or ""))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f".*{re.escape(NOT_TO_BE_USED)}", UserWarning)  # the verdict says it
        found = fit.predict(job.recipe.fed(new, job.features), draws=draws, interval=interval, seed=seed)
    found = replace(found, index=_row_labels(data, new, (*job.features, *job.data.asked(job.pair.model))))
    table, labelled = found.to_dataframe(), found.index is not None
    try:
        with whole(target) as part:
            table.to_parquet(part, index=labelled) if target.suffix == ".parquet" else table.to_csv(
                part, index=labelled
            )
    except OSError as error:
        raise OutputUnwritable(f"Can't write {target}: {error}. Choose another --out.") from error
    if out is None:
        save_figure(found.plot().figure, folder / "predictions.png")
        write_json(folder / "config.json", read_json(folder / "config.json") | {"predictions": found.verdict()})
        report(folder)
    return found, table, target


def _read(path: Path, declared: list[str]) -> Dataset:
    """The new rows; columns that the fit was told to be categorical are so here too, where there are any."""
    new = read_table(path)
    there = [name for name in declared if name in new.tensors or name in (new.unusable or {})]
    return read_table(path, categorical=there) if there else new


def _declared(told: Any) -> str | None:
    """The columns that the fit was told to be categorical."""
    found = told.get("categorical")
    return found if isinstance(found, str) else None


def _row_labels(path: Path, new: Dataset, asked: Collection[str]) -> pd.Index | None:
    """The index that pandas wrote to a Parquet file; otherwise the first column, if the model does not take it and it is an integer or a name that differs between all rows."""
    if path.suffix in (".parquet", ".pq"):
        own = pd.read_parquet(path, columns=[]).index
        if not isinstance(own, pd.RangeIndex):
            return own
    first, values = next(iter(new.tensors.items()))
    if first in asked or values.dim() != 1 or values.is_floating_point():
        return None
    values = values[:]  # of a large file, it is stored
    if len(values.unique()) < len(values):
        return None
    codes, labels = values.tolist(), new.labels.get(first)
    found = codes if labels is None else [labels[code] for code in codes]
    return pd.Index(found, name=None if first.startswith("Unnamed: ") else first)


def _require_writable(target: Path) -> None:
    """Checks that the table can be written, before anything is computed.

    Raises:
        BadInput: The kind of file is not supported, or its library is not installed.
        OutputUnwritable: The folder does not exist.
    """
    if target.suffix not in KINDS:
        raise BadInput(f"--out {target}. Wanted: a file that ends in {' or '.join(KINDS)}.")
    if target.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise BadInput(
            f"--out {target} needs pyarrow, which is not installed. Fix: pip install 'vbayes[tables]', or --out {target.with_suffix('.csv')}."
        )
    if not target.parent.is_dir():
        raise OutputUnwritable(
            f"The folder {target.parent}, to write {target.name} to, does not exist. Fix: mkdir {target.parent}."
        )


def _fit(folder: Path, pair: str | None, may_run: Callable[[str], bool]) -> tuple[Any, Job, Fit]:
    if missing := absent(folder):
        raise BadInput(f"{missing} Wanted: a run folder of `vbayes train`.")
    if not regular_file.is_regular(folder / FIT):
        raise BadInput(f"{folder} holds no fit: there is no {FIT} in it. Wanted: a run folder of `vbayes train`.")
    told: Any = read_json(folder / "config.json")
    check(folder / "config.json", told, {"pair": TEXT, "data": TEXT, "changed": {}, "settings": {}})
    name = told["pair"]
    if pair not in (None, name):
        raise BadInput(f"--pair {pair}, but the fit of {folder} is of {name!r}. Wanted: --pair {name}.")
    if ":" in name and pair is None and not may_run(name):
        raise BadInput(
            f"The pair of {folder} is {name!r}, which is Python code, and code is not run just because a run folder names it. Fix: add --pair {name}."
        )
    data = str(told.get("file") or told["data"])
    now, then = digest_of(data), told.get("sha256")
    if now and then and now != then:
        raise BadInput(
            f"{data} has changed since the fit of {folder} was trained on it, and a fit can only be loaded with its own data. Wanted: the original file. Fix: restore it, or train again: "
            f"vbayes train {name} --data {data}."
        )
    changed = {
        word: str(both[1]) for word, both in told["changed"].items() if isinstance(both, list) and len(both) == 2
    }
    settings = {word: value for word, value in changed.items() if word in told["settings"]}
    how = {"binarize": told.get("binarize"), "missing": told.get("missing"), "categorical": _declared(told)}
    job = find(name, data, settings=settings, guide=changed.get("guide"), **how)
    return told, job, Fit.load(folder / FIT, job.pair, job.data)
