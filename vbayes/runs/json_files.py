"""The JSON files of a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import BadInput
from . import regular_file


def write_json(path: Path, content: Any) -> None:
    """Writes an indented file in UTF-8 atomically."""
    regular_file.write(path, (json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n").encode("utf-8"))


def read_json(path: Path) -> Any:
    """The content of a file.

    Raises:
        BadInput: The file is missing or damaged.
    """
    try:
        return json.loads(regular_file.read(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} can't be read: {error}. Wanted: the JSON file as written by the run.") from error


def read_json_or_nothing(path: Path) -> dict[str, Any]:
    """Like `read_json`, but returns an empty dictionary for a missing, damaged or foreign file."""
    try:
        content = read_json(path)
    except BadInput:
        return {}
    return content if isinstance(content, dict) else {}
