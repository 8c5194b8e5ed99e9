"""Places that hold values which some code reads."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Place:
    """A place that holds a value: an attribute of a closure's cell or a function, or an item of a namespace, dict or list.

    Two places are equal if they are the same place.
    """

    def __init__(self, owner: Any, key: Any, name: str) -> None:
        self.owner, self.key, self.name = owner, key, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self.owner is other.owner and bool(self.key == other.key)

    def __hash__(self) -> int:
        return hash((id(self.owner), self.key))

    @property
    def writable(self) -> bool:
        """Whether the value can be replaced temporarily."""
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
    """Whether the place still holds a value."""
    try:
        place.get()
    except (KeyError, IndexError, ValueError):
        return False
    return True


@contextmanager
def standing(values: Sequence[tuple[Place, Any]]) -> Iterator[None]:
    """Context in which some places hold other values."""
    before = [place.get() for place, _ in values]
    try:
        for place, value in values:
            place.set(value)
        yield
    finally:
        for (place, _), value in zip(values, before, strict=True):
            place.set(value)
