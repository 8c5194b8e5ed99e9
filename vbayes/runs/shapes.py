"""What the JSON of a run folder must hold for its page, so that a damaged file is one error with its name and place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import BadInput

TEXT, NAME, NUMBER, ANYTHING = "text", "a text or a whole number", "a number", "anything"
SHAPES: dict[str, Any] = {
    "config": {},
    "environment": {},
    "results": {"question": TEXT, "claim": TEXT, "verdict": TEXT, "notes": TEXT, "columns": [NAME], "rows": [[ANYTHING]]},
    "diagnosis": {"verdict": TEXT},
    "comparison": {
        "verdict": TEXT, "oracle": TEXT, "estimators": [TEXT], "batch_size": NUMBER, "replicas": NUMBER,
        "points": [{"at": TEXT, "step": NUMBER, "elbo_per_datum": NUMBER}],
        "rows": [{"at": TEXT, "group": TEXT, "estimator": TEXT,
                  **dict.fromkeys(("variance", "variance_se", "snr", "bias_z", "ms_per_gradient", "variance_time"), NUMBER)}],
    },
}  # fmt: skip
"""File → what is in it: a table with these names (and others), a list of such entries, or a kind of value."""


def check(path: Path, content: Any, shape: Any) -> None:
    """That a file holds what it must.

    Raises:
        BadInput: It doesn't.
    """
    if fault := _fault(content, shape, "it"):
        raise damaged(path, fault)


def damaged(path: Path, fault: str) -> BadInput:
    """The error of a file that can be read, and is not what the run wrote."""
    return BadInput(
        f"{path} is damaged: {fault}. Nothing was changed. Wanted: the file as written by the run. Fix: use another copy, or run again."
    )


def is_number(value: Any) -> bool:
    """Whether it is one, or stands for one that JSON has no way to write."""
    if value is None or value in ("inf", "-inf"):
        return True
    try:
        return type(value) in (int, float) and float(value) is not None
    except OverflowError:
        return False


def _fault(content: Any, shape: Any, where: str) -> str:
    """What is not as it must be; empty where all is."""
    if isinstance(shape, dict):
        if not isinstance(content, dict):
            return f"{where} is not a table of names and values"
        parts = [(content.get(name), inner, f"{where}[{name!r}]" if where != "it" else repr(name)) for name, inner in shape.items()]  # fmt: skip
        if missing := [name for name in shape if name not in content]:
            return f"{where} has no {missing[0]!r}"
    elif isinstance(shape, list):
        if not isinstance(content, list):
            return f"{where} is not a list"
        parts = [(entry, shape[0], f"{where}[{number}]") for number, entry in enumerate(content)]
    else:
        right = {TEXT: isinstance(content, str), NAME: type(content) in (str, int), NUMBER: is_number(content)}
        return "" if right.get(shape, True) else f"{where} is {content!r:.80}, and wanted is {shape}"
    return next((fault for part in parts if (fault := _fault(*part))), "")
