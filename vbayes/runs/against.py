"""A page that compares several runs: settings that differ, verdicts, numbers, ELBO curves. It computes nothing but means."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInput, absent
from . import regular_file
from .curves import curves
from .index import summary
from .json_files import read_json, read_json_or_nothing
from .numbers import plain, table_of
from .report import pictures
from .template import write_page

LEFT_OUT = {
    "changed",
    "fingerprint",
    "convergence",
    "found",
    "failed",
    "predictions",
    "steps",
    "interrupted",
    "converged",
}
"""Entries of `config.json` that are results of a run, not its settings."""
DIAGNOSED = {
    "k_hat": "k̂",
    "effective": "effective draws",
    "rows": "rows diagnosed",
    "elbo": "ELBO of the rows diagnosed (nats)",
    "log_evidence": "log p(x) of the rows diagnosed, lower bound (nats)",
}
COMPARED = {"variance": "variance", "snr": "SNR", "ms_per_gradient": "ms"}


def against(folders: Sequence[Path], target: Path) -> Path:
    """Writes a page that compares runs.

    Args:
        folders: Run folders, two or more.
        target: Path of the page.

    Returns:
        Path of the page.

    Raises:
        BadInput: One of them is not a run folder.
        OutputUnwritable: The page can't be written; an older one is left as it was.
    """
    names = [folder.name for folder in folders]
    names = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    configs = [_config(folder) for folder in folders]
    histories = [_history(folder / "history.csv") for folder in folders]
    drawn = curves(dict(zip(names, histories, strict=True)))
    estimators = {str(config.get("estimator")) for config in configs}
    bounds = [str(config.get("bound") or config.get("estimator")) for config in configs]
    return write_page(
        target,
        "against.html.j2",
        runs=[summary(folder) | {"name": name} for folder, name in zip(folders, names, strict=True)],
        differs=table_of(["setting", *names], _differing(configs)),
        numbers=table_of(["", *names], _numbers(folders, histories)),
        curves=drawn,
        several_bounds=len(set(bounds)) > 1,
        several_estimators=len(estimators) > 1,
        bound=bounds[0] if bounds else "",
        bounds=[f"{name}: {bound}" for name, bound in zip(names, bounds, strict=True)],
        other_data=len({plain(config.get("data")) for config in configs}) > 1,
        compared=_compared(folders, names),
        figures=_side_by_side(folders, names),
    )


def _config(folder: Path) -> dict[str, Any]:
    if not os.path.lexists(folder / "config.json"):
        raise BadInput(
            f"{absent(folder) or f'{folder} is not a run folder: it has no config.json.'} Wanted: folders written by `vbayes train`, `compare` or `run`."
        )
    told = read_json(folder / "config.json")
    flat = {name: value for name, value in told.items() if name not in LEFT_OUT} if isinstance(told, dict) else {}
    settings = flat.pop("settings", None)
    return flat | (settings if isinstance(settings, dict) else {})


def _differing(configs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each setting that differs between the runs."""
    rows = [
        [name, *(plain(config.get(name)) for config in configs)]
        for name in dict.fromkeys(n for c in configs for n in c)
    ]
    return [[row[0].replace("_", " "), *row[1:]] for row in rows if len(set(row[1:])) > 1]


def _history(path: Path) -> list[tuple[float, float]]:
    """Step and ELBO per datum, as far as the file can be read; empty without a file."""
    found: list[tuple[float, float]] = []
    try:
        for row in csv.DictReader(regular_file.read(path).decode("utf-8").splitlines()):
            found.append((float(row["step"]), float(row["elbo_per_datum"])))
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        pass
    return found


def _numbers(folders: Sequence[Path], histories: Sequence[Sequence[tuple[float, float]]]) -> list[list[Any]]:
    """The results of the runs, one column each."""
    told = [read_json_or_nothing(folder / "diagnosis.json") for folder in folders]
    rows: list[list[Any]] = [
        ["steps", *(len(history) or None for history in histories)],
        ["ELBO per datum, mean of the last tenth (nats)", *(_end(history) for history in histories)],
    ]
    rows += [[words, *(_number(one.get(name)) for one in told)] for name, words in DIAGNOSED.items()]
    return [row for row in rows if any(value is not None for value in row[1:])]


def _end(history: Sequence[tuple[float, float]]) -> float | None:
    last = [y for _, y in history[-max(1, len(history) // 10) :]]
    return sum(last) / len(last) if last else None


def _number(value: Any) -> float | str | None:
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) and _is_finite(value) else None


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def _compared(folders: Sequence[Path], names: Sequence[str]) -> dict[str, Any] | None:
    """The noise of the whole gradient at the end of each comparison, one row for each estimator; None if fewer than two runs are comparisons."""
    found = [_whole_gradient(read_json_or_nothing(folder / "comparison.json")) for folder in folders]
    if sum(map(bool, found)) < 2:
        return None
    columns = ["estimator", *(f"{words}, {name}" for words in COMPARED.values() for name in names)]
    estimators = list(dict.fromkeys(name for one in found for name in one))
    return table_of(
        columns, [[e, *(_number(one.get(e, {}).get(key)) for key in COMPARED for one in found)] for e in estimators]
    )


def _whole_gradient(comparison: dict[str, Any]) -> dict[str, dict[str, Any]]:
    points, rows = comparison.get("points"), comparison.get("rows")
    if not (isinstance(points, list) and points and isinstance(rows, list)):
        return {}
    last = points[-1].get("at") if isinstance(points[-1], dict) else None
    rows = [row for row in rows if isinstance(row, dict) and row.get("at") == last and row.get("group") == "all"]
    return {str(row.get("estimator")): row for row in rows}


def _side_by_side(folders: Sequence[Path], names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Name of a figure → that figure of each run that has it, with the run's name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for folder, name in zip(folders, names, strict=True):
        for figure in pictures(folder):
            found.setdefault(figure["name"], []).append(figure | {"run": name})
    found.pop("training.png", None)  # the curves show it
    return found
