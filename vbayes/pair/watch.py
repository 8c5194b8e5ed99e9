"""Detects changes of anything that model, guide and loss depend on besides their arguments, as far as possible."""

from __future__ import annotations

import dis
import functools
import sys
import sysconfig
import types
from collections.abc import Collection
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from .places import Place, readable

MOST = 256  # maximum number of watched places
LONGEST = 64  # maximum number of items of a list, tuple or dict that are inspected
TORCHS = frozenset(vars(nn.Module()))  # torch's own entries of a module, besides its attributes
PLAIN = (bool, int, float, str, type(None))
_LIBRARIES = (
    *(sysconfig.get_paths()[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parents[1]),
)
_GLOBALS, _ATTRIBUTES = {"LOAD_GLOBAL", "LOAD_NAME"}, {"LOAD_ATTR", "LOAD_METHOD"}


class Watch:
    """The places that some callables read: closure cells, globals named in their code, defaults, and attributes of objects named in their code.

    A place has changed if it holds another value, or if its tensor was written to. Parameters and module buffers are not watched, as
    they are supposed to change. Nor is anything that their code does not name.

    Args:
        callables: Model, guide and the like.
        settings: An object, such as an ELBO, whose numbers, flags and strings are all watched.
        without: Places that are not watched.
    """

    def __init__(self, *callables: Any, settings: Any = None, without: Collection[Place] = ()) -> None:
        self.places: list[Place] = []
        self._seen: dict[int, Any] = {}  # with the object itself, so that its id is not reused
        self._attributes: set[str] = set()
        self._functions: set[types.CodeType] = set()
        self._containers: list[list[Any] | dict[Any, Any]] = []
        self._objects: dict[int, tuple[Any, str]] = {}
        for thing in callables:
            self._visit(thing, getattr(thing, "__name__", type(thing).__name__))
        self._attributes_of_objects()
        self._plain(settings, type(settings).__name__)
        self.places = [place for place in self.places if place not in set(without)]
        self._tensors: list[Tensor] = []
        self.reset()

    def reset(self) -> None:
        """Takes the current values as those to compare with."""
        self.places = [place for place in self.places if readable(place)]
        self._before = [place.get() for place in self.places]
        together: dict[int, list[Place]] = {}
        for place in self.places:
            together.setdefault(id(place.owner), []).append(place)
        self._readers = [
            ((attrgetter if same[0].of_attribute else itemgetter)(*(p.key for p in same)), same[0].owner)
            for same in together.values()
        ]
        self._now, self._lengths = self._read(), [len(each) for each in self._containers]
        found = [value for value in self._before if isinstance(value, Tensor) and not value.requires_grad]
        self._tensors = [t for t in found if not t.is_inference()]
        self._versions = [t._version for t in self._tensors]

    def changed(self) -> bool:
        """Whether any place has changed since."""
        try:
            return (
                self._read() != self._now
                or [t._version for t in self._tensors] != self._versions
                or [len(each) for each in self._containers] != self._lengths
            )
        except (KeyError, IndexError, ValueError, RuntimeError, TypeError):  # removed, or not comparable
            return True

    def what_changed(self) -> list[tuple[Place, Any]]:
        """The places that have changed, each with its earlier value."""
        written = {id(t) for t, version in zip(self._tensors, self._versions, strict=True) if t._version != version}
        return [
            (place, before)
            for place, before in zip(self.places, self._before, strict=True)
            if not readable(place) or id(before) in written or _differ(place.get(), before)
        ]

    def _read(self) -> list[Any]:
        return [read(owner) for read, owner in self._readers]

    # ---- collecting places ------------------------------------------------------------------------------------

    def _add(self, owner: Any, key: Any, name: str) -> None:
        place = Place(owner, key, name)
        if len(self.places) < MOST and readable(place):
            self.places.append(place)
            self._visit(place.get(), name)

    def _visit(self, thing: Any, name: str) -> None:
        if isinstance(thing, (*PLAIN, Tensor, torch.Size, torch.dtype)) or id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing
        if isinstance(thing, types.MethodType):
            self._visit(thing.__self__, type(thing.__self__).__name__)
            self._visit(thing.__func__, name)
        elif isinstance(thing, functools.partial):
            self._visit(thing.func, name)
            self._visit(list(thing.args), name)
            self._visit(thing.keywords, name)
        elif isinstance(thing, types.FunctionType):
            self._function(thing, name)
        elif isinstance(thing, types.ModuleType):
            if not _of_a_library(getattr(thing, "__file__", None)):
                self._objects[id(thing)] = thing, name
        elif isinstance(thing, (list, tuple)) and len(thing) <= LONGEST:
            if isinstance(thing, list):
                self._containers.append(thing)
            for i, part in enumerate(thing):
                if isinstance(thing, list):
                    self._add(thing, i, f"{name}[{i}]")
                else:
                    self._visit(part, f"{name}[{i}]")
        elif type(thing) is dict and len(thing) <= LONGEST:
            self._containers.append(thing)
            for key in list(thing):
                self._add(thing, key, f"{name}[{key!r}]")
        elif isinstance(thing, nn.Module):
            for part in thing.modules():
                self._object(part, type(part).__name__)
        elif not isinstance(thing, type) and hasattr(thing, "__dict__"):
            self._object(thing, name)

    def _object(self, thing: Any, name: str) -> None:
        self._objects[id(thing)] = thing, name
        if isinstance(thing, Messenger):
            self._plain(thing, name)
        elif isinstance(thing, nn.Module) and _of_a_library(_file_of(type(thing))):  # type: ignore[arg-type]
            self._plain(thing, name, (float,))  # rates and the like, such as that of a dropout; not sizes
        for kind in type(thing).__mro__:
            if not _of_a_library(_file_of(kind)):
                for method in ("forward", "__call__"):
                    if isinstance(fn := vars(kind).get(method), types.FunctionType):
                        self._visit(fn, f"{name}.{method}")

    def _plain(self, thing: Any, name: str, kinds: tuple[type, ...] = PLAIN) -> None:
        held = getattr(thing, "__dict__", {})
        for each, value in list(held.items()):
            if isinstance(value, kinds):
                self._add(held, each, f"{name}.{each}")

    def _function(self, fn: types.FunctionType, name: str) -> None:
        if fn.__code__ not in self._functions:
            self._functions.add(fn.__code__)
        for free, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
            self._add(cell, "cell_contents", free)
        if fn.__defaults__:
            self._add(fn, "__defaults__", f"a default of {name}")
        if fn.__kwdefaults__:
            self._visit(fn.__kwdefaults__, f"a default of {name}")
        if wrapped := getattr(fn, "__wrapped__", None):
            self._visit(wrapped, name)
        globals_, attributes = _names_in(fn.__code__)
        self._attributes |= attributes
        for each in sorted(globals_):
            value = fn.__globals__.get(each, _ABSENT)
            if value is _ABSENT or isinstance(value, type):
                continue
            if isinstance(value, types.FunctionType) and _of_a_library(value.__code__.co_filename):
                continue
            if isinstance(value, types.ModuleType) and _of_a_library(getattr(value, "__file__", None) or "built in"):
                continue
            self._add(fn.__globals__, each, each)

    def _attributes_of_objects(self) -> None:
        """Collects the attributes that some code names; code and objects may lead to more of both."""
        done: set[tuple[int, str]] = set()
        while todo := [
            (thing, name, each)
            for thing, name in list(self._objects.values())
            for each in sorted(self._attributes)
            if (id(thing), each) not in done
        ]:
            for thing, name, each in todo:
                done.add((id(thing), each))
                held = vars(thing)
                if each in held:
                    if each not in TORCHS and not isinstance(held[each], nn.Parameter):
                        self._add(held, each, f"{name}.{each}")
                elif each not in held and not isinstance(thing, types.ModuleType):
                    self._of_class(thing, name, each)

    def _of_class(self, thing: Any, name: str, each: str) -> None:
        for kind in type(thing).__mro__:
            value = vars(kind).get(each, _ABSENT)
            if value is _ABSENT or _of_a_library(_file_of(kind)):
                continue
            value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if isinstance(value, types.FunctionType):
                self._visit(value, f"{name}.{each}")
            elif isinstance(value, (*PLAIN, Tensor)):
                self._add(vars(kind), each, f"{name}.{each}")
            return


_ABSENT = object()


def _differ(new: Any, old: Any) -> bool:
    try:
        return new is not old and not bool(new == old)
    except (ValueError, RuntimeError, TypeError):
        return True


@functools.cache
def _of_a_library(file: str | None) -> bool:
    return file is not None and (file == "built in" or file.startswith(("<frozen", *_LIBRARIES)))


@functools.cache
def _file_of(kind: type) -> str | None:
    return getattr(sys.modules.get(kind.__module__), "__file__", None) or (
        "built in" if kind.__module__ == "builtins" else None
    )


@functools.cache
def _names_in(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the globals and attributes that some code reads, including nested functions."""
    globals_: set[str] = set()
    attributes: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBALS:
            globals_.add(instruction.argval)
        elif instruction.opname in _ATTRIBUTES:
            attributes.add(instruction.argval)
    for inside in code.co_consts:
        if isinstance(inside, types.CodeType):
            of_that = _names_in(inside)
            globals_ |= of_that[0]
            attributes |= of_that[1]
    return frozenset(globals_), frozenset(attributes)
