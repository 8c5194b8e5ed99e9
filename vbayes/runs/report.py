"""A run folder as one self-contained page. It computes nothing: it reads files and lays them out."""

from __future__ import annotations

import base64
import csv
import math
import os
import re
from pathlib import Path
from typing import Any

from ..arguments.takes import takes
from ..errors import BadInput
from . import regular_file
from .json_files import read_json
from .shapes import SHAPES, TEXT, check, damaged
from .template import write_page

CAPTIONS = {
    "comparison.png": "Variance of the gradient by group of parameters along the training, and the time that each estimator "
    "needs for the same precision at its end.",
    "diagnosis.png": "The weights of the draws, where they move the draws, and the ELBO during training: what the verdict rests on.",
    "training.png": "ELBO per datum at each step, and its running mean.",
    "figure.png": "The measured table as a figure.",
    "reconstructions.png": "Some data, and the mean of their posterior predictive.",
}
FILES = {
    "comparison.json": "every number above, and the settings",
    "table.csv": "every number above",
    "results.json": "the same, with question, claim and verdict",
    "diagnosis.json": "the verdict, and its numbers",
    "history.csv": "the ELBO at each step",
    "posterior.nc": "draws for ArviZ: posterior, prior, predictive, log-likelihood",
    "fit.safetensors": "parameters, and what resuming needs",
    "config.json": "what was asked for",
    "environment.json": "where it ran",
}


@takes()
def report(folder: str | Path) -> Path:
    """Writes the page `report.html` of a run folder: verdict, figures, tables, settings, files. Links in the folder are not followed.

    Args:
        folder: Of `vbayes compare`, `vbayes train` or `vbayes run`.

    Returns:
        The page's path.

    Raises:
        BadInput: No such folder, no run, or a damaged file in it.
        OutputUnwritable: The page can't be written; an older one is still there.
    """
    folder = Path(folder)
    if not os.path.lexists(folder / "config.json"):
        raise BadInput(
            f"{folder} is no run folder: it has no config.json. Wanted: a folder that `vbayes compare`, `vbayes train` or `vbayes run` wrote."
        )
    filters = {"short": _short, "cell": _cell, "signed": lambda v: f"{v:+.1f}" if _is_finite(v) else _short(v)}
    told = {name: _told(folder / f"{name}.json") for name in ("config", "environment", "comparison", "results", "diagnosis")}  # fmt: skip
    if told["results"] is None:
        needed = ("command", "pair", "data") if told["comparison"] else ("command", "pair", "data", "estimator")
        check(folder / "config.json", told["config"], dict.fromkeys(needed, TEXT))
    return write_page(
        folder / "report.html",
        "report.html.j2",
        filters=filters,
        config=told["config"],
        environment=told["environment"] or {},
        comparison=told["comparison"],
        experiment=told["results"],
        diagnosis=told["diagnosis"],
        last=_last_row(folder / "history.csv"),
        figures=pictures(folder),
        files=[(name, about) for name, about in FILES.items() if regular_file.is_regular(folder / name)],
    )


def _told(path: Path) -> Any:
    """What a file holds; None without one."""
    if not os.path.lexists(path):
        return None
    content = read_json(path)
    check(path, content, SHAPES[path.stem])
    return content


def _last_row(path: Path) -> dict[str, str]:
    """The end of the history; empty without one."""
    if not os.path.lexists(path):
        return {}
    try:
        lines = regular_file.read(path).decode("utf-8").splitlines()
        last = dict(next(reversed(list(csv.DictReader(lines))), {}))
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"{path} can't be read: {error}. Wanted: the table that the run wrote.") from error
    for name in ("step", "seconds", "elbo_per_datum") if last else ():
        try:
            float(last[name])
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path, f"its last row has no number for {name!r}") from error
    return last


def pictures(folder: Path) -> list[dict[str, str]]:
    """The figures of a run folder, each with its caption and itself as text that a page can hold. What is no file of the folder's own is left out."""
    return [_figure(path) for path in sorted(folder.glob("*.png")) if regular_file.is_regular(path)]


def _figure(path: Path) -> dict[str, str]:
    encoded = base64.b64encode(regular_file.read(path)).decode("ascii")
    caption = CAPTIONS.get(path.name, re.sub(r"^figure-\d+-", "", path.stem).replace("_", " "))
    return {"name": path.name, "caption": caption, "source": f"data:image/png;base64,{encoded}"}


def _cell(value: Any) -> str:
    return _short(value) if value is None or isinstance(value, float) else str(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _short(value: float | str | None) -> str:
    """Three digits, with ×10ⁿ where that reads better."""
    if value is None or value != value:
        return "–"
    if not isinstance(value, str) and math.isinf(value):
        value = str(value)
    if isinstance(value, str):  # "inf", which JSON has no number for
        return value.replace("inf", "∞").replace("-", "−")
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -3 <= exponent < 5:
        return f"{value:,.{max(0, 2 - exponent)}f}"
    superscript = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value / 10**exponent:.2f}×10{superscript}"
