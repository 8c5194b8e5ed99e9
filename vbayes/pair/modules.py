"""Finds the modules that a callable uses, and protects their running statistics."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


def reachable_modules(*callables: Any) -> list[nn.Module]:
    """The modules that some callables use: the callables themselves, objects they are bound to, and what is in their closures or named in their code."""
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
                except ValueError:  # a name that is not yet bound
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


@contextmanager
def buffers_stay() -> Iterator[list[nn.Module]]:
    """Context in which modules in training mode run on copies of their buffers, so that repeated runs at the same draw don't update running statistics again.

    Yields:
        The modules that have changed their copies.
    """
    running: list[tuple[nn.Module, dict[str, Tensor | None]]] = []
    touched: list[nn.Module] = []

    def hand_out_copies(module: nn.Module, _args: Any) -> None:
        own = module._buffers
        running.append((module, dict(own)))
        if module.training:
            own.update({name: buffer.clone() for name, buffer in own.items() if buffer is not None})

    def take_back(_module: nn.Module, _args: Any, _output: Any) -> None:
        module, own = running.pop()
        if any(b is not None and b is not own.get(name) and b._version for name, b in module._buffers.items()):
            touched.append(module)
        module._buffers.update(own)

    hooks = [
        register_module_forward_pre_hook(hand_out_copies),
        register_module_forward_hook(take_back, always_call=True),
    ]
    try:
        yield touched
    finally:
        for hook in hooks:
            hook.remove()
