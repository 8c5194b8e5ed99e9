"""A choice from a set, a flag, or a string."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from .kind import refuse


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
        near = difflib.get_close_matches(value.lower(), texts, n=1, cutoff=0.4) if isinstance(value, str) else []
        got = f"not a {self.what}" if self.what else "not a valid choice" if isinstance(value, str) else None
        refuse(
            name,
            value,
            got=got,
            wanted=self.words,
            mend=f"{name.split('(')[-1]}={near[0]!r}" if near else f"{name.split('(')[-1]}={self.example}",
        )


@dataclass(frozen=True)
class Flag:
    """True or False."""

    words: str = "True or False"
    example: str = "True"

    def __call__(self, name: str, value: Any) -> bool:
        if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):  # NumPy's
            return bool(value)
        refuse(
            name, value, wanted=self.words, mend=f"{name}={bool(value) if isinstance(value, (int, float)) else True}"
        )


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
        refuse(
            name,
            value,
            got=None if not isinstance(value, str) else "empty",
            wanted=self.words,
            mend=f"{name}={self.example}",
        )


FLAG, TEXT = Flag(), Text()
COMPILE = Choice(("auto", True, False, "native", "xla", "torch"))
