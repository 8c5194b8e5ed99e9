"""Parses the values of options."""

from __future__ import annotations

import re

from ..errors import BadInput


def integers(option: str, text: str) -> tuple[int, ...]:
    """Parses integers separated by commas."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"{option} {text!r}. Wanted: integers separated by commas, such as 1,4,16.") from None


def names(text: str) -> list[str]:
    """Parses names separated by commas; commas inside parentheses, as in "iwae(64, noise='sobol')", don't separate."""
    return [name.strip() for name in re.split(r",(?![^(]*\))", text) if name.strip()]


def seeds(first: int, text: str | None) -> tuple[int, ...]:
    """The listed seeds; or a number of consecutive seeds starting at the first."""
    try:
        numbers = [] if text is None else [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = [-1]
    if text is None or (numbers and "," not in text and numbers[0] > 0):
        return tuple(range(first, first + (numbers or [1])[0]))
    if not numbers or min(numbers) < 0 or "," not in text or len(set(numbers)) < len(numbers):
        raise BadInput(
            f"--seeds {text!r}. Wanted: distinct integers separated by commas, such as 0,1,7, or a number of seeds, such as 5."
        )
    return tuple(numbers)


def settings(option: str, given: list[str] | None) -> dict[str, str]:
    """Parses NAME=VALUE."""
    settings = {}
    for setting in given or ():
        name, equals, value = setting.partition("=")
        if not equals:
            raise BadInput(f"{option} {setting!r} has no value. Wanted: NAME=VALUE.")
        settings[name] = value
    return settings
