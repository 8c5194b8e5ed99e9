"""The methods of a fit that are implemented in higher-level packages, and imported when called."""

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
"""Functions that need diagnoses while a `Fit` or its page is made → the module with the function of that name."""


def verb(name: str) -> Callable[..., Any]:
    """Imports the function behind a method of a fit."""
    return getattr(import_module((VERBS | WAYS)[name], __package__), name)  # type: ignore[no-any-return]
