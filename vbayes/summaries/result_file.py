"""Results as JSON files, including the numbers that JSON can't represent."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..errors import BadInput, absent

R = TypeVar("R")


def save(path: str | Path, content: Mapping[str, Any]) -> Path:
    """Writes a result with the version of vbayes; infinite numbers as strings, and NaN as null."""
    from .. import __version__

    path = Path(path)
    written = json.dumps(_written({"vbayes": __version__, **content}), indent=1, ensure_ascii=False)
    path.write_text(written + "\n", encoding="utf-8")
    return path


def load(path: str | Path, made: Callable[[dict[str, Any]], R], kind: str) -> R:
    """Loads what `save` wrote.

    Args:
        path: The file.
        made: Makes the result from the decoded JSON.
        kind: Kind of result, in a word.

    Raises:
        BadInput: The file does not exist, or holds something else.
    """
    if missing := absent(path):
        raise BadInput(f"{missing} Wanted: a file written by `{kind.capitalize()}.save`.")
    try:
        return made(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise BadInput(
            f"{path} is not a {kind}: {error!r}. Wanted: a file written by `{kind.capitalize()}.save`."
        ) from error


def numbers(row: Mapping[str, Any], words: Collection[str]) -> dict[str, Any]:
    """A row of a table as it was before `save`.

    Args:
        row: The row decoded from JSON.
        words: Columns of text, as an estimator may be called "inf".
    """
    return {name: value if name in words else _read(value) for name, value in row.items()}


def _written(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _written(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_written(v) for v in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(v) for v in value]
    return math.nan if value is None else float(value) if value in ("inf", "-inf") else value
