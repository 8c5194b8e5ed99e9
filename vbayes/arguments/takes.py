"""How a verb says what it takes."""

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
    """Checks the arguments of a function, or of a class when an object is made, before anything else is done.

    An argument that stands in `kinds` is of this kind; others are what their name or their type says (`names.py`). What is neither is left to the
    function. Keywords that there are not are answered with the nearest one.

    Args:
        kinds: Argument → kind, where it is another than its name says.

    Raises:
        UnknownKeyword: A keyword that the function does not have.
        BadCall: Too many arguments, or one that is missing.
        BadInput: A value that is none.
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
    """Argument → its kind, of those that have one."""
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
    """Which argument is which.

    Args:
        name: Of what is called.
        signature: Its own.
        args, kwargs: As somebody wrote them.
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
            got=f"a call that it does not understand: {error}",
            wanted=f"{name}({needed})",
            mend="hand in what is missing, and others by their names",
        ) from None
