"""The contract of kinds of arguments: each accepts a value, possibly converting its type, or rejects it with an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from ..errors import BadInput
from .said import said, type_of, word, written


class Kind(Protocol):
    """One kind of argument."""

    @property
    def words(self) -> str:
        """A description of valid values: "an integer of at least 1"."""
        ...

    @property
    def example(self) -> str:
        """An example of a valid value, as source code."""
        ...

    def __call__(self, name: str, value: Any) -> Any:
        """Returns the value, converted to the right type.

        Raises:
            BadInput: The value is not of this kind; the message names the argument.
        """
        ...


def refuse(
    name: str, value: Any, *, wanted: str, mend: str, got: str | None = None, error: type[BadInput] = BadInput
) -> NoReturn:
    """Raises an error from the four parts of its message.

    Args:
        name: Name of the argument.
        value: Its value.
        wanted, mend: What is needed, and how to fix it, in words.
        got: Description of the value; its type if None.
        error: Class of the error.
    """
    raise error.of(said(name, value), got=got or type_of(value), wanted=wanted, mend=mend)


@dataclass(frozen=True)
class Optional:
    """Another kind, or None.

    Attributes:
        kind: The other kind.
        means: The meaning of None, in words.
    """

    kind: Kind
    means: str = ""

    @property
    def words(self) -> str:
        return f"{self.kind.words}, or None{self.means and ' for '}{self.means}"

    @property
    def example(self) -> str:
        return self.kind.example

    def __call__(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        try:
            return self.kind(name, value)
        except BadInput as error:
            if not error.parts:
                raise
            raise type(error).of(**{**error.parts, "wanted": self.words}) from None


@dataclass(frozen=True)
class Either:
    """One of two kinds."""

    one: Kind
    other: Kind

    @property
    def words(self) -> str:
        return f"{self.one.words}, or {self.other.words}"

    @property
    def example(self) -> str:
        return self.one.example

    def __call__(self, name: str, value: Any) -> Any:
        try:
            return self.one(name, value)
        except BadInput as error:
            refused = error
        try:
            return self.other(name, value)
        except BadInput:
            raise type(refused).of(**{**refused.parts, "wanted": self.words}) from None


@dataclass(frozen=True)
class Several:
    """A list or tuple of another kind.

    Attributes:
        kind: Kind of each entry.
        least, most: Bounds on the number of entries; no upper bound if `most` is None.
    """

    kind: Kind
    least: int = 1
    most: int | None = None

    @property
    def words(self) -> str:
        return f"a list or tuple whose items are each {self.kind.words}" + (", at least one" if self.least else "")

    @property
    def example(self) -> str:
        return f"({self.kind.example},)"

    def __call__(self, name: str, value: Any) -> Any:
        try:
            if isinstance(value, (str, bytes, dict)) or not isinstance(value, Iterable):
                raise TypeError
            found = tuple(value)
        except Exception:  # a 0-d array says that it can be gone through
            refuse(name, value, wanted=self.words, mend=f"{word(name)}={self._of_one(name, value)}")
        if len(found) < self.least:
            refuse(name, value, got="empty", wanted=self.words, mend=f"{word(name)}={self.example}")
        if self.most is not None and len(found) > self.most:
            refuse(
                name,
                value,
                got=f"a list of {len(found)}",
                wanted=f"{self.words}, {self.most} at most",
                mend=f"leave out {len(found) - self.most} of them",
            )
        return tuple(self.kind(f"{name}[{place}]", one) for place, one in enumerate(found))

    def _of_one(self, name: str, value: Any) -> str:
        """How to write a single value of the kind as a tuple, or else an example."""
        try:
            made = self.kind(name, value)
        except BadInput:
            return self.example
        text = written(value) or written(made)
        return f"({text},)" if text else self.example


@dataclass(frozen=True)
class Mapped:
    """A mapping from names to another kind.

    Attributes:
        kind: Of each.
    """

    kind: Kind

    @property
    def words(self) -> str:
        return f"a mapping from names to {self.kind.words}"

    @property
    def example(self) -> str:
        return f"{{'a': {self.kind.example}}}"

    def __call__(self, name: str, value: Any) -> Any:
        if not isinstance(value, Mapping):
            refuse(name, value, wanted=self.words, mend=f"{word(name)}={self.example}")
        if odd := [one for one in value if not isinstance(one, str)]:
            mend = (
                f"a string as name, {str(odd[0])!r}" if isinstance(odd[0], (int, float)) else f"{name}={self.example}"
            )
            refuse(name, value, got=f"one with the name {odd[0]!r}", wanted=self.words, mend=mend)
        return {key: self.kind(f"{name}[{key!r}]", one) for key, one in value.items()}


@dataclass(frozen=True)
class Anything:
    """Any value; it is checked elsewhere."""

    words: str = "a value"
    example: str = "None"

    def __call__(self, name: str, value: Any) -> Any:
        return value
