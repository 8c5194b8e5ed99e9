"""Code that a command names: `module:name`, or `file.py:name`."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import BadInput, absent, near

ENDING = ".py"
WANTED = "package.module:name, or path/to/file.py:name, of a model, a pair, or a function that returns a pair"


def spelled(pair: str | None) -> str | None:
    """A name of a pair in one spelling, as run folders keep it: `./models.py:claims` is `models:claims`; a file in another folder keeps its path."""
    file, colon, name = (pair or "").rpartition(":")
    if not colon or not file.endswith(ENDING):
        return pair
    path = os.path.normpath(file)
    return f"{path if os.path.dirname(path) else path.removesuffix(ENDING)}:{name}"


def imported(pair: str) -> Any:
    """What `module:name` or `file.py:name` stands for.

    Raises:
        BadInput: There is no such file, module or name, or the module can't be imported.
    """
    place, _, name = pair.rpartition(":")
    file = Path(place) if place.endswith(ENDING) else None
    if file is not None and (missing := absent(file)):
        raise BadInput(f"{missing} Wanted: {WANTED}.")
    module, folder = (place, "") if file is None else (file.stem, str(file.parent))
    sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module)
    except (ImportError, AttributeError, TypeError, ValueError, SyntaxError) as error:
        hint = near(module, _modules()) if getattr(error, "name", None) == module else ""
        raise BadInput(f"Can't import {name!r} from {place!r}: {error}.{_after(hint)} Wanted: {WANTED}.") from error
    finally:
        sys.path.remove(folder)
    file = file or _beside(module)
    if file is not None and not _is(found, file):
        raise BadInput(
            f"{pair}: another module is called {module!r} too ({getattr(found, '__file__', None) or 'built into Python'}). Wanted: a file with a name of its own. Fix: rename {file}."
        )
    if not hasattr(found, name):
        own = [key for key, value in vars(found).items() if _is_own(value, found.__name__)]
        raise BadInput(
            f"{place} has no {name!r}.{_after(near(name, own))} Wanted: one of the names defined there: {', '.join(own) or 'there are none'}."
        )
    return getattr(found, name)


def file_of(pair: str) -> str | None:
    """The file of the code of a pair that has been imported; None for a built-in pair."""
    place = pair.rpartition(":")[0]
    module = Path(place).stem if place.endswith(ENDING) else place
    return getattr(sys.modules.get(module), "__file__", None) if place else None


def require_name_in(pair: str) -> None:
    """Raises `BadInput` if a file, or a module in the current folder, is named without what is to be taken from it."""
    file = Path(pair if pair.endswith(ENDING) else pair + ENDING)
    if missing := absent(file):
        if pair.endswith(ENDING):
            raise BadInput(f"{missing} Wanted: {WANTED}.")
        return
    try:
        inside = ast.parse(file.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, ValueError):
        inside = []
    names = [node.name for node in inside if isinstance(node, ast.FunctionDef | ast.ClassDef)] + _pairs(inside)
    raise BadInput(
        f"{pair} is a file of code; it is not said what to take from it. Wanted: {pair}:NAME, of a model, a pair, or a function that returns a pair. "
        f"Fix: {' or '.join(f'{pair}:{name}' for name in names[:3]) or f'{pair}:model'}."
    )


def _after(hint: str) -> str:
    return hint and f" {hint}"


def _beside(module: str) -> Path | None:
    """The file in the current folder that a module's name stands for, if there is one."""
    file = Path(module + ENDING)
    return file if file.is_file() and not os.path.isdir(module) else None


def _is_own(value: Any, module: str) -> bool:
    """Whether something is defined in a module: a function, a class, or a pair."""
    from ..pair.pair import Pair

    return isinstance(value, Pair) or getattr(value, "__module__", None) == module


def _pairs(inside: list[ast.stmt]) -> list[str]:
    """The names in `claims = vb.Pair(model)`."""
    made = [
        node
        for node in inside
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).rpartition(".")[2] == "Pair"
    ]
    return [target.id for node in made for target in node.targets if isinstance(target, ast.Name)]


def _modules() -> list[str]:
    return [entry.removesuffix(ENDING) for entry in os.listdir() if entry.endswith(ENDING)]


def _is(module: Any, file: Path) -> bool:
    own = getattr(module, "__file__", None)
    return own is not None and os.path.exists(own) and os.path.samefile(own, file)
