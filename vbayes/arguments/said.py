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


def word(name: str) -> str:
    """The name of an argument without its class, as in `TVO(betas`."""
    return name.split("(")[-1]


def written(value: Any) -> str:
    """A value as source code: a short literal, or the name of a function or class; empty if it is neither."""
    if isinstance(value, LITERALS):
        text = said("", value)[1:]
        return "" if value is None or text.endswith("…") else text
    name = getattr(value, "__name__", "")
    return name if isinstance(name, str) and name.isidentifier() else ""


def only(value: Any) -> Any:
    """The single item of a list, tuple or array; None if it is anything else."""
    if isinstance(value, (list, tuple)) or (hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1):
        return value[0] if len(value) == 1 else None
    return None


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
