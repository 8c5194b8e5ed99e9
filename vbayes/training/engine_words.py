"""Describes what takes the steps, and if that is not the fastest, why."""

from __future__ import annotations

from collections.abc import Iterable

from ..staging import Compiled
from ..staging.loop import NOT_ASKED, Loop

SHORT = {"native": "machine code", "xla": "XLA", "Pyro": "Pyro"}


def engine_of(made: Iterable[Loop | Compiled]) -> str:
    """The engine of some programs: "native", "xla", "recorded graph", or "interpreted: ..." with the reason."""
    programs = list(made)
    slow = [each for each in programs if not (each.native or each.xla) and each.why_not != NOT_ASKED]
    if slow:
        bare = [each.why_not for each in slow if not getattr(each, "recorded", False)]
        return f"interpreted: {bare[0]}" if bare else "recorded graph"
    return "xla" if any(each.xla for each in programs) else "native"


def short(engine: str) -> str:
    """The same in one or two words, for the table of a race."""
    return next((word for start, word in SHORT.items() if engine.startswith(start)), "captured program")
