"""`vbayes predict`: what a kept fit says of other rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ..data import read_table
from ..errors import BadInput, OutputUnwritable
from ..inference.prediction import Prediction
from ..runs import regular_file
from ..runs.json_files import read_json, write_json
from ..runs.picture import save_figure
from ..runs.report import report
from ..runs.run_folder import whole
from ..runs.shapes import TEXT, check
from ..training.result import Fit
from .commands import find
from .job import Job
from .keep import FIT

TABLE = "predictions.csv"
KINDS = (".csv", ".parquet")


def predict(
    folder: Path, data: Path, pair: str | None, *, draws: int, interval: float, seed: int, out: Path | None
) -> tuple[Prediction, pd.DataFrame, Path]:
    """The prediction, its table, and where that was written.

    Args:
        folder: Of `vbayes train`.
        data: A table with the new rows.
        pair: `package.module:function`, for a fit of a pair that is not built in: a run folder names no code to run.
        draws, interval, seed: As for `vb.predict`.
        out: The table; `predictions.csv` in the folder, with a figure and the page, if None.

    Raises:
        BadInput: No fit, another pair than that of the fit, or an ending that is none of a table.
        OutputUnwritable: The table can't be written.
    """
    if out is not None and out.suffix not in KINDS:
        raise BadInput(f"--out {out}. Wanted: a file that ends in {' or '.join(KINDS)}.")
    job, fit = _fit(folder, pair)
    found = fit.predict(job.recipe.fed(read_table(data)), draws=draws, interval=interval, seed=seed)
    table, target = found.to_dataframe(), out or folder / TABLE
    try:
        with whole(target) as part:
            table.to_parquet(part, index=False) if target.suffix == ".parquet" else table.to_csv(part, index=False)
    except OSError as error:
        raise OutputUnwritable(f"Can't write {target}: {error}. Choose another --out.") from error
    if out is None:
        save_figure(found.plot().figure, folder / "predictions.png")
        write_json(folder / "config.json", read_json(folder / "config.json") | {"predictions": found.verdict()})
        report(folder)
    return found, table, target


def _fit(folder: Path, pair: str | None) -> tuple[Job, Fit]:
    if not regular_file.is_regular(folder / FIT):
        raise BadInput(f"{folder} holds no fit: it has no {FIT}. Wanted: a run folder of `vbayes train`.")
    told: Any = read_json(folder / "config.json")
    check(folder / "config.json", told, {"pair": TEXT, "data": TEXT, "changed": {}, "settings": {}})
    name = told["pair"]
    if ":" in name and pair is None:
        raise BadInput(
            f"The pair of {folder} is {name!r}, which is code, and no run folder says which code to run. Mend: add --pair {name}."
        )
    if pair not in (None, name):
        raise BadInput(f"--pair {pair}, but the fit of {folder} is of {name!r}. Wanted: --pair {name}.")
    changed = {
        word: str(both[1]) for word, both in told["changed"].items() if isinstance(both, list) and len(both) == 2
    }
    settings = {word: value for word, value in changed.items() if word in told["settings"]}
    data = told.get("file") or told["data"]
    job = find(name, str(data), settings=settings, guide=changed.get("guide"), binarize=told.get("binarize"))
    return job, Fit.load(folder / FIT, job.pair, job.data)
