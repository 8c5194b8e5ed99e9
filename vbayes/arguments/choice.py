"""A choice from a set, a flag, or a string."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from typing import Any

from .kind import refuse
from .said import word

NO = ("", "false", "no", "off", "none", "0", "0.0")  # as text


@dataclass(frozen=True)
class Choice:
    """One of a set of strings, which may include True and False.

    Attributes:
        known: The allowed values.
        what: A description of them, such as "way to a posterior".
    """

    known: tuple[Any, ...]
    what: str = ""

    @property
    def words(self) -> str:
        *most, last = map(repr, self.known)
        return f"{', '.join(most)} or {last}" if most else last

    @property
    def example(self) -> str:
        return repr(self.known[0])

    def __call__(self, name: str, value: Any) -> Any:
        if any(type(value) is type(one) and value == one for one in self.known):
            return value
        texts = [one for one in self.known if isinstance(one, str)]
        near: list[Any] = (
            difflib.get_close_matches(value.lower(), texts, n=1, cutoff=0.4) if isinstance(value, str) else []
        )
        if isinstance(value, (int, float)):  # 1 for True
            near = [one for one in self.known if value == one]
        got = f"not a {self.what}" if self.what else "not a valid choice" if isinstance(value, str) else None
        mend = f"{word(name)}={near[0]!r}" if near else f"choose one of these, such as {word(name)}={self.example}"
        refuse(name, value, got=got, wanted=self.words, mend=mend)


@dataclass(frozen=True)
class Flag:
    """True or False."""

    words: str = "True or False"
    example: str = "True"

    def __call__(self, name: str, value: Any) -> bool:
        if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):  # NumPy's
            return bool(value)
        plain = isinstance(value, (str, int, float, type(None)))
        meant = not plain or str(value).strip().lower() not in NO
        refuse(name, value, wanted=self.words, mend=f"{word(name)}={meant}")


@dataclass(frozen=True)
class Text:
    """A string.

    Attributes:
        empty: Whether it may be empty.
    """

    empty: bool = True
    words: str = "a string"
    example: str = "'a string'"

    def __call__(self, name: str, value: Any) -> str:
        if isinstance(value, str) and (value or self.empty):
            return value
        meant = repr(str(value)) if isinstance(value, (int, float, os.PathLike)) else self.example
        got = None if not isinstance(value, str) else "empty"
        refuse(name, value, got=got, wanted=self.words, mend=f"{word(name)}={meant}")


FLAG, TEXT = Flag(), Text()
COMPILE = Choice(("auto", True, False, "native", "xla", "torch"))
