"""Which modules a callable holds."""

from __future__ import annotations

import functools
import types
from typing import Any

from torch import nn


def reachable_modules(*callables: Any) -> list[nn.Module]:
    """The modules that some callables hold: themselves, the object they are bound to, what they close over or name."""
    found: list[nn.Module] = []
    seen: set[int] = set()

    def visit(thing: Any) -> None:
        if id(thing) in seen:
            return
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            if not any(thing is part for module in found for part in module.modules()):
                found.append(thing)
        elif isinstance(thing, types.MethodType):
            visit(thing.__self__)
            for part in getattr(thing.__self__, "__dict__", {}).values():
                visit(part)
            visit(thing.__func__)
        elif isinstance(thing, functools.partial):
            for part in (thing.func, *thing.args, *thing.keywords.values()):
                visit(part)
        elif isinstance(thing, types.FunctionType):
            for cell in thing.__closure__ or ():
                try:
                    visit(cell.cell_contents)
                except ValueError:  # a name that is not bound yet
                    continue
            for name in thing.__code__.co_names:
                part = thing.__globals__.get(name)
                # Modules by name, and functions of the same file; not the libraries that those call.
                if isinstance(part, nn.Module) or getattr(part, "__globals__", None) is thing.__globals__:
                    visit(part)
            visit(getattr(thing, "__wrapped__", None))

    for thing in callables:
        visit(thing)
    return found
