"""The required content of a run folder's JSON files, so that a damaged file gives one error with its name and the position."""

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
    "estimates": {"columns": [NAME], "rows": [[ANYTHING]], "words": TEXT},
    "comparison": {
        "verdict": TEXT, "oracle": TEXT, "estimators": [TEXT], "batch_size": NUMBER, "replicas": NUMBER,
        "points": [{"at": TEXT, "step": NUMBER, "elbo_per_datum": NUMBER}],
        "rows": [{"at": TEXT, "group": TEXT, "estimator": TEXT,
                  **dict.fromkeys(("variance", "variance_se", "snr", "bias_z", "ms_per_gradient", "variance_time"), NUMBER)}],
    },
}  # fmt: skip
"""File → its content: a mapping with at least these names, a list of such entries, or a kind of value."""


def check(path: Path, content: Any, shape: Any) -> None:
    """Checks the content of a file.

    Raises:
        BadInput: It is not as required.
    """
    if fault := _fault(content, shape, "it"):
        raise damaged(path, fault)


def damaged(path: Path, fault: str) -> BadInput:
    """The error for a readable file whose content is not what the run wrote."""
    return BadInput(
        f"{path} is damaged: {fault}. Nothing was changed. Wanted: the file as written by the run. Fix: use another copy, or run again."
    )


def is_number(value: Any) -> bool:
    """Whether a value is a number, or the text for one that JSON can't represent."""
    if value is None or value in ("inf", "-inf"):
        return True
    try:
        return type(value) in (int, float) and float(value) is not None
    except OverflowError:
        return False


def _fault(content: Any, shape: Any, where: str) -> str:
    """A description of what is wrong; empty if nothing is."""
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
