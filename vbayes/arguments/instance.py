"""Objects of vbayes's own classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .kind import refuse


@dataclass(frozen=True)
class Instance:
    """An object of a class, or of one of several.

    Attributes:
        classes: The classes.
        words: A description: "a vb.Pair".
        example: How to make one.
    """

    classes: type | tuple[type, ...]
    words: str
    example: str

    def __call__(self, name: str, value: Any) -> Any:
        if not isinstance(value, self.classes):
            refuse(name, value, wanted=self.words, mend=f"pass {self.example}")
        return value
