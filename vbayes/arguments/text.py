"""Parses typed values, using the type of the default."""

from __future__ import annotations

from typing import Any

from ..errors import BadInput

TRUTHS = {"true": True, "false": False, "yes": True, "no": False}
WORDS = {bool: "true or false", int: "an integer", float: "a number"}


def typed(name: str, text: str, like: Any) -> Any:
    """Parses a value from text.

    Args:
        name: Name of the setting.
        text: The text; lists are separated by commas.
        like: A value of the required type; if None, the text is parsed as an integer, a number, None, or text, whichever fits first.

    Raises:
        BadInput: The text is not a value of this type.
    """
    if isinstance(like, (list, tuple)):
        first = like[0] if like else ""
        return type(like)(typed(name, part.strip(), first) for part in text.split(",") if part.strip())
    if like is None:
        return _guess(text)
    if isinstance(like, bool):
        if text.lower() in TRUTHS:
            return TRUTHS[text.lower()]
    else:
        try:
            return type(like)(text)
        except (TypeError, ValueError):
            pass
    wanted = WORDS.get(type(like), f"a {type(like).__name__}")
    raise BadInput(f"{name}={text!r} has the wrong type. Wanted: {wanted}, such as {name}={like}.")


def _guess(text: str) -> int | float | str | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None if text.lower() == "none" else text
