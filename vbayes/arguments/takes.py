"""The decorator that checks the arguments of public functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ..errors import BadCall, UnknownKeyword, near
from .kind import Kind
from .names import kind_of

T = TypeVar("T", bound=Callable[..., Any])


def takes(**kinds: Kind) -> Callable[[T], T]:
    """Decorator that checks the arguments of a function, or of a class when an object is made, before anything else.

    An argument in `kinds` has that kind; for others the kind follows from the name or the type (`names.py`). All others are left to the
    function. For unknown keywords, the error suggests the nearest one.

    Args:
        kinds: Argument → kind, if it differs from what its name says.

    Raises:
        UnknownKeyword: A keyword that the function does not have.
        BadCall: There are too many arguments, or one is missing.
        BadInput: A value is not valid.
    """

    def decorate(thing: T) -> T:
        function = thing.__init__ if isinstance(thing, type) else thing  # type: ignore[misc]
        signature = inspect.signature(function)
        found = kinds_of(signature, kinds)

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            bound = bind(thing.__name__, signature, args, kwargs)
            for name, value in bound.arguments.items():
                if (kind := found.get(name)) is not None:
                    bound.arguments[name] = kind(name, value)
            return function(*bound.args, **bound.kwargs)

        if isinstance(thing, type):
            thing.__init__ = checked  # type: ignore[misc]
            return thing
        return checked  # type: ignore[return-value]

    return decorate


def kinds_of(signature: inspect.Signature, kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    """Argument → its kind, for arguments that have one."""
    found = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        kind = kinds.get(name) or kind_of(name, str(parameter.annotation))
        if kind is not None:
            found[name] = kind
    return found


def bind(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    """Matches the arguments of a call to the signature.

    Args:
        name: Name of the function.
        signature: Its signature.
        args, kwargs: The arguments of the call.
    """
    known = [p for p in signature.parameters.values() if p.name != "self"]
    if not any(p.kind is p.VAR_KEYWORD for p in known):
        for word in kwargs:
            if word not in signature.parameters:
                names = [p.name for p in known]
                raise UnknownKeyword(
                    f"{name}() has no keyword {word!r}. {near(word, names)}\nKnown: {', '.join(names)}."
                )
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        needed = ", ".join(p.name if p.default is p.empty else f"{p.name}=..." for p in known[:6])
        raise BadCall.of(
            f"{name}(...)",
            got=f"called with the wrong arguments: {error}",
            wanted=f"{name}({needed})",
            mend="pass the missing arguments, and others by keyword",
        ) from None
