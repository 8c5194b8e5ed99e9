"""Long lists of cases: a few of them run each time, the others with the slow proofs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def some_quick(cases: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """All cases, those that are not `quick` marked as slow."""
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]
