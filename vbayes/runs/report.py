"""A run folder as one self-contained page. It computes nothing: it reads files and lays them out."""

from __future__ import annotations

import base64
import csv
import math
import re
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .json_files import read_json
from .template import write_page

CAPTIONS = {
    "comparison.png": "Variance of the gradient by group of parameters along the training, and the time that each estimator "
    "needs for the same precision at its end.",
    "diagnosis.png": "The weights of the draws, where they move the draws, and the ELBO during training: what the verdict rests on.",
    "training.png": "ELBO per datum at each step, and its running mean.",
    "figure.png": "What was measured.",
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


def report(folder: str | Path) -> Path:
    """Writes `report.html` into a run folder: verdict, figures, tables, settings, files.

    Args:
        folder: Of `vbayes compare`, `vbayes train` or `vbayes run`.

    Returns:
        The page's path.

    Raises:
        BadInput: No such folder, no run, or a damaged file in it.
        OutputUnwritable: The page can't be written; an older one is still there.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise BadInput(
            f"{folder} is no run folder: it has no config.json. Wanted: a folder that `vbayes compare`, `vbayes train` or `vbayes run` wrote."
        )
    filters = {"short": _short, "cell": _cell, "signed": lambda v: "–" if v is None else f"{v:+.1f}"}
    comparison = read_json(folder / "comparison.json") if (folder / "comparison.json").exists() else None
    return write_page(
        folder / "report.html",
        "report.html.j2",
        filters=filters,
        config=read_json(folder / "config.json"),
        environment=read_json(folder / "environment.json") if (folder / "environment.json").exists() else {},
        comparison=comparison,
        experiment=read_json(folder / "results.json") if (folder / "results.json").exists() else None,
        diagnosis=read_json(folder / "diagnosis.json") if (folder / "diagnosis.json").exists() else None,
        last=_last_row(folder / "history.csv"),
        figures=pictures(folder),
        files=[(name, about) for name, about in FILES.items() if (folder / name).exists()],
    )


def _last_row(path: Path) -> dict[str, str]:
    """The end of the history; empty without one."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return dict(next(reversed(list(csv.DictReader(file))), {}))


def pictures(folder: Path) -> list[dict[str, str]]:
    """The figures of a run folder, each with its caption and itself as text that a page can hold."""
    return [_figure(path) for path in sorted(folder.glob("*.png"))]


def _figure(path: Path) -> dict[str, str]:
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    caption = CAPTIONS.get(path.name, re.sub(r"^figure-\d+-", "", path.stem).replace("_", " "))
    return {"name": path.name, "caption": caption, "source": f"data:image/png;base64,{encoded}"}


def _cell(value: Any) -> str:
    return _short(value) if value is None or isinstance(value, float) else str(value)


def _short(value: float | str | None) -> str:
    """Three digits, with ×10ⁿ where that reads better."""
    if value is None:
        return "–"
    if isinstance(value, str):  # "inf", which JSON has no number for
        return value.replace("inf", "∞").replace("-", "−")
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -3 <= exponent < 5:
        return f"{value:,.{max(0, 2 - exponent)}f}"
    superscript = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value / 10**exponent:.2f}×10{superscript}"
