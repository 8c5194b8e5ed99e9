"""Paths of files and folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path as APath
from typing import Any

from .kind import refuse


@dataclass(frozen=True)
class Path:
    """The path of a file or folder."""

    words: str = "the path of a file or folder, as a string or a pathlib.Path"
    example: str = "'runs/mine'"

    def __call__(self, name: str, value: Any) -> APath:
        if not isinstance(value, (str, os.PathLike)) or not isinstance(found := os.fspath(value), str):
            refuse(name, value, wanted=self.words, mend=f"{name}={self.example}")
        if not found or "\0" in found:
            refuse(name, found, got="not a valid file name", wanted=self.words, mend=f"{name}={self.example}")
        return APath(found)


PATH = Path()
