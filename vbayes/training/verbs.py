"""What a fit has from the rooms above it: the one list of them. Each verb stands in its own room, and is imported when it is called."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

VERBS = {
    "diagnose": "..diagnostics.diagnose",
    "linear_response": "..inference.linear_response",
    "posterior": "..inference.posterior",
    "predict": "..inference.predict",
}
"""Method of a `Fit` → the module with the function of that name."""
WAYS = {"climb": "..diagnostics.climb", "bent": "..diagnostics.climb", "report": "..diagnostics.report"}
"""What asks for diagnoses on the way to a `Fit`, or to its page → likewise."""


def verb(name: str) -> Callable[..., Any]:
    """The function that a method of a fit is, or a way to one."""
    return getattr(import_module((VERBS | WAYS)[name], __package__), name)  # type: ignore[no-any-return]
