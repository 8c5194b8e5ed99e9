"""What stands behind an option, taken apart."""

from __future__ import annotations

import re

from ..errors import BadInput


def integers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers, with commas."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"{option} {text!r}. Wanted: whole numbers with commas, such as 1,4,16.") from None


def names(text: str) -> list[str]:
    """Names, with commas; those inside the brackets of one, as in "iwae(64, noise='sobol')", belong to it."""
    return [name.strip() for name in re.split(r",(?![^(]*\))", text) if name.strip()]


def seeds(first: int, text: str | None) -> tuple[int, ...]:
    """Those listed, or so many from the first on."""
    try:
        numbers = [] if text is None else [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = [-1]
    if text is None or (numbers and "," not in text and numbers[0] > 0):
        return tuple(range(first, first + (numbers or [1])[0]))
    if not numbers or min(numbers) < 0 or "," not in text or len(set(numbers)) < len(numbers):
        raise BadInput(f"--seeds {text!r}. Wanted: different whole numbers with commas, as 0,1,7, or how many, as 5.")
    return tuple(numbers)


def settings(option: str, given: list[str] | None) -> dict[str, str]:
    """NAME=VALUE, taken apart."""
    settings = {}
    for setting in given or ():
        name, equals, value = setting.partition("=")
        if not equals:
            raise BadInput(f"{option} {setting!r} has no value. Wanted: NAME=VALUE.")
        settings[name] = value
    return settings
