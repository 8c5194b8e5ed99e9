"""How error messages show a value: shortened, and without raising another error."""

from __future__ import annotations

from typing import Any

LONGEST = 60  # characters
LITERALS = (str, bytes, int, float, complex, bool, type(None), tuple, list, dict, set)


def said(name: str, value: Any) -> str:
    """`name=value` if the value is short, otherwise only the name. For the name of a setting, `Class(name`, the bracket is closed."""
    end = ")" if "(" in name else ""
    if not isinstance(value, LITERALS):
        return name + end
    try:
        text = repr(value)
    except Exception:  # an object of the user's own class
        return name + end
    return f"{name}={text if len(text) <= LONGEST else text[: LONGEST - 1] + '…'}{end}"


def type_of(value: Any) -> str:
    """A description of a value: "a str", "a tensor of shape (3,)", "the function len"."""
    if value is None:
        return "nothing"
    kind = type(value).__name__
    if kind in ("Tensor", "Parameter", "ndarray", "MaskedArray") and hasattr(value, "shape"):
        return f"{'an array' if 'rray' in kind else 'a tensor'} of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
