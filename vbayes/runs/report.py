"""A run folder as one self-contained page, made only from the files in the folder."""

from __future__ import annotations

import base64
import csv
import os
import re
from pathlib import Path
from typing import Any

from ..arguments.takes import takes
from ..errors import BadInput, absent
from ..headings import heading
from . import regular_file
from .json_files import read_json
from .numbers import signed, table_of
from .picture import KEEPS, PAPER, SHOWS, told
from .shapes import SHAPES, TEXT, check, damaged
from .template import write_page

CAPTIONS = {
    "comparison.png": "Variance of the gradient for each group of parameters during training, and the time that each estimator "
    "needs for equal precision at the end.",
    "diagnosis.png": "Evidence for the verdict: the weights of the draws, where they move the draws, and the training objective.",
    "training.png": "The training objective per datum at each step, and its running mean.",
    "predictions.png": "Means of the posterior predictive distribution, with intervals of the probability given in the legend.",
    "reconstructions.png": "Some data (above), and the means of their posterior predictive distributions (below).",
}
FILES = {
    "comparison.json": "all numbers above, and the settings",
    "table.csv": "all numbers above",
    "results.json": "the same, with question, claim and verdict",
    "diagnosis.json": "the verdict, and its numbers",
    "estimates.json": "posterior means, standard deviations and intervals",
    "history.csv": "the training objective at each step",
    "posterior.nc": "draws for ArviZ: posterior, prior, predictive, log-likelihood",
    "fit.safetensors": "parameters, and the state needed to resume training",
    "predictions.csv": "predictions: means, standard deviations, intervals",
    "config.json": "the arguments of the run",
    "environment.json": "versions, machine and date",
}


@takes()
def report(folder: str | Path) -> Path:
    """Writes the page `report.html` of a run folder: verdict, figures, tables, settings, files. Links in the folder are not followed.

    Args:
        folder: Run folder of `vbayes compare`, `vbayes train` or `vbayes run`.

    Returns:
        Path of the page.

    Raises:
        BadInput: The folder does not exist, is not a run folder, or has a damaged file.
        OutputUnwritable: The page can't be written; an older one is left as it was.
    """
    return written(Path(folder), Path(folder) / "report.html")


def written(folder: Path, target: Path) -> Path:
    """Like `report`, for a page anywhere; a page outside of the folder names no files."""
    if not os.path.lexists(folder / "config.json"):
        raise BadInput(
            f"{absent(folder) or f'{folder} is not a run folder: it has no config.json.'} Wanted: a folder written by `vbayes compare`, `vbayes train` or `vbayes run`."
        )
    holds = {name: _content(folder / f"{name}.json") for name in ("config", "environment", "comparison", "results", "diagnosis", "estimates")}  # fmt: skip
    if holds["results"] is None:
        needed = ("command", "pair", "data") if holds["comparison"] else ("command", "pair", "data", "estimator")
        check(folder / "config.json", holds["config"], dict.fromkeys(needed, TEXT))
    experiment, comparison = holds["results"], holds["comparison"]
    changed = holds["config"].get("changed")
    return write_page(
        target,
        "report.html.j2",
        config=holds["config"] | {"failed": holds["config"].get("failed")},
        settings={name: value for name, value in holds["config"].items() if name not in ("changed", "failed")},
        changed=changed if _is_changed(changed) else {},
        environment=holds["environment"] or {},
        comparison=comparison,
        experiment=experiment,
        numbers=_headed(experiment) if experiment else _compared(comparison),
        diagnosis=holds["diagnosis"],
        estimates=holds["estimates"] and holds["estimates"] | _headed(holds["estimates"]),
        last=_last_row(folder / "history.csv"),
        figures=pictures(folder),
        files=[
            (name, about)
            for name, about in FILES.items()
            if target.parent == folder and regular_file.is_regular(folder / name)
        ],
    )


def _is_changed(value: Any) -> bool:
    """Whether a value is a mapping from settings to [usual, here]; an experiment may have a setting called "changed"."""
    return isinstance(value, dict) and all(isinstance(both, list) and len(both) == 2 for both in value.values())


def _headed(table: Any) -> dict[str, Any]:
    """A table of columns and rows, with headings in words."""
    return table_of(table["columns"], table["rows"], [heading(str(name)) for name in table["columns"]])


def _compared(comparison: Any) -> list[dict[str, Any]]:
    """For each point of a comparison, group → the table of its estimators."""
    found: list[dict[str, Any]] = []
    for point in comparison["points"] if comparison else ():
        rows = [row for row in comparison["rows"] if row["at"] == point["at"]]
        groups = sorted({row["group"] for row in rows}, key=lambda group: (group != "all", group))
        found.append({group: _of_group([row for row in rows if row["group"] == group]) for group in groups})
    return found


def _of_group(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("estimator", "variance", "variance_se", "snr", "bias_z", "ms_per_gradient", "variance_time")
    headings = ("estimator", "variance", "± SE", "SNR", "bias z", "ms", "variance × ms")
    made = table_of(names, [[row[name] for name in names] for row in rows], headings)
    for cells, row in zip(made["rows"], rows, strict=True):
        cells[4]["text"] = signed(row["bias_z"])
    known = [row["variance_time"] for row in rows if isinstance(row["variance_time"], (int, float))]
    return made | {"best": [bool(known) and row["variance_time"] == min(known) for row in rows]}


def _content(path: Path) -> Any:
    """The content of a file; None if it does not exist."""
    if not os.path.lexists(path):
        return None
    content = read_json(path)
    check(path, content, SHAPES[path.stem])
    return content


def _last_row(path: Path) -> dict[str, str]:
    """The last row of the history; empty without a history."""
    if not os.path.lexists(path):
        return {}
    try:
        lines = regular_file.read(path).decode("utf-8").splitlines()
        last = dict(next(reversed(list(csv.DictReader(lines))), {}))
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"{path} can't be read: {error}. Wanted: the table as written by the run.") from error
    for name in ("step", "seconds", "elbo_per_datum") if last else ():
        try:
            float(last[name])
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path, f"its last row has no number for {name!r}") from error
    return last


def pictures(folder: Path) -> list[dict[str, Any]]:
    """The figures of a run folder with their captions, encoded as text for a page. Anything but regular files is left out."""
    return [_figure(path) for path in sorted(folder.glob("*.png")) if regular_file.is_regular(path)]


def _figure(path: Path) -> dict[str, Any]:
    content = regular_file.read(path)
    encoded = base64.b64encode(content).decode("ascii")
    return described(path, content) | {"source": f"data:image/png;base64,{encoded}"}


def described(path: Path, content: bytes) -> dict[str, Any]:
    """Name and caption of a figure, and whether it is a chart, which may be inverted on a dark page."""
    says = told(content)
    which = re.sub(r"^figure-\d+-", "", path.stem).replace("_", " ") if path.stem != "figure" else ""
    caption = CAPTIONS.get(path.name) or ": ".join(filter(None, (which, says.get(SHOWS, "")))) or "Figure"
    return {"name": path.name, "caption": caption, "chart": says.get(PAPER) != KEEPS}
