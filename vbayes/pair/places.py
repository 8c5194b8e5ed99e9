"""Places where values are kept that some code reads."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Place:
    """Where a value is kept: an attribute of a closure's cell or a function, or an item of a namespace, dict or list.

    Places are equal where they are the same.
    """

    def __init__(self, owner: Any, key: Any, name: str) -> None:
        self.owner, self.key, self.name = owner, key, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self.owner is other.owner and bool(self.key == other.key)

    def __hash__(self) -> int:
        return hash((id(self.owner), self.key))

    @property
    def writable(self) -> bool:
        """Whether another value can stand there for a while."""
        return isinstance(self.owner, (types.CellType, dict, list))

    @property
    def of_attribute(self) -> bool:
        return isinstance(self.owner, (types.CellType, types.FunctionType))

    def get(self) -> Any:
        return getattr(self.owner, self.key) if self.of_attribute else self.owner[self.key]

    def set(self, value: Any) -> None:
        if self.of_attribute:
            setattr(self.owner, self.key, value)
        else:
            self.owner[self.key] = value


def readable(place: Place) -> bool:
    """Whether anything stands there still."""
    try:
        place.get()
    except (KeyError, IndexError, ValueError):
        return False
    return True


@contextmanager
def standing(values: Sequence[tuple[Place, Any]]) -> Iterator[None]:
    """Other values stand in some places for a while."""
    before = [place.get() for place, _ in values]
    try:
        for place, value in values:
            place.set(value)
        yield
    finally:
        for (place, _), value in zip(values, before, strict=True):
            place.set(value)
