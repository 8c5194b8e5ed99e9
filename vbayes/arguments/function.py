"""Functions that vbayes calls: models, guides, measurements."""

from __future__ import annotations

import inspect
import types
from dataclasses import dataclass, replace
from typing import Any

from .kind import refuse

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def call_of(value: Any) -> str:
    """The call of a function that makes a pair, like those of `vb.pairs`, as text; empty for any other function."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    made = signature.return_annotation
    if str(getattr(made, "__name__", made)).rpartition(".")[2] != "Pair":
        return ""
    found = [p for p in signature.parameters.values() if p.kind in NAMED]
    needed = [f"{p.name}=..." for p in found if p.default is p.empty or p.name == "features"]
    home = "vb.pairs." if value.__module__.startswith("vbayes.pairs") else ""
    return f"{home}{value.__name__}({', '.join(needed)})"


@dataclass(frozen=True)
class Function:
    """A callable.

    Attributes:
        python: Whether it must be the user's own code: a model that is `len` draws nothing, and a class makes an object instead of running.
        what: A description of it.
    """

    python: bool = False
    what: str = "a function"
    example: str = "a function that you have written"

    @property
    def words(self) -> str:
        return self.what

    def __call__(self, name: str, value: Any) -> Any:
        if not callable(value):
            refuse(name, value, wanted=self.words, mend=f"pass {self.example}, without calling it")
        if self.python and isinstance(value, types.BuiltinFunctionType | types.BuiltinMethodType):
            refuse(
                name,
                value,
                got=f"Python's own {value.__name__}, which draws nothing",
                wanted=self.words,
                mend=f"pass {self.example}",
            )
        if self.python and isinstance(value, type):
            refuse(name, value, wanted=self.words, mend=f"pass an instance, {value.__name__}(...)")
        if self.python and (call := call_of(value)):
            refuse(
                name, value, got="a function that returns a pair, not a model", wanted="the pair that it returns", mend=f"call it, {call}",
            )  # fmt: skip
        return value


@dataclass(frozen=True)
class Guide:
    """A user-defined guide, or the name of one."""

    words: str = "a function of the data that calls pyro.sample, an autoguide, or a name such as 'auto'"
    example: str = "'auto'"

    def __call__(self, name: str, value: Any) -> Any:
        return value if isinstance(value, str) else replace(MODEL, what=self.words)(name, value)


FUNCTION = Function()
MODEL = Function(
    python=True,
    what="a function of the data that calls pyro.sample, or a module with such a `forward`",
    example="`def model(x): ...`",
)
GUIDE = Guide()
