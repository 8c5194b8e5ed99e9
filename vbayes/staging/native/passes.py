"""The passes in order, the result of each, and which of them is responsible for an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor
from torch.fx import GraphModule

from .build import CompilerMissing, vector_math
from .emit import emit
from .fold import fold
from .interpret import interpret
from .ir import Graph, Unsupported
from .lower import lower
from .memory import Layout, lay_out
from .products import arrange
from .schedule import Schedule, schedule
from .verify import verify

T = TypeVar("T")
LAST = "C"  # the culprit if all other passes were right


class PassFailed(Exception):
    """A pass failed, or made an invalid program: a bug of the compiler, not an error of its user."""


@dataclass(frozen=True, eq=False)
class Translation:
    """What each pass made; `show` prints any of them.

    Attributes:
        graph: By lowering.
        folded: By the passes from graph to graph: products arranged, constants folded.
        schedule: By scheduling.
        layout: By laying out memory.
        source: C.
    """

    graph: Graph
    folded: Graph
    schedule: Schedule
    layout: Layout
    source: str


def translate(module: GraphModule, states: int = 0) -> Translation:
    """A captured graph of ATen operations as C.

    Args:
        module: See `lower`.
        states: The first so many inputs are overwritten with the first as many outputs.

    Raises:
        Unsupported: An operation or a type that there is no C for.
        PassFailed: A bug of ours.
    """
    graph = _checked("lowering", lambda: lower(module, states))
    folded = _checked("folding", lambda: fold(arrange(graph)))
    scheduled = _checked("scheduling", lambda: schedule(folded))
    layout = _checked("memory", lambda: lay_out(scheduled))
    return Translation(graph, folded, scheduled, layout, _run(LAST, lambda: emit(layout, vector_math())))


def _checked(name: str, make: Callable[[], T]) -> T:
    made = _run(name, make)
    _run(name, lambda: verify(made))  # type: ignore[arg-type]
    return made


def _run(name: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except (Unsupported, CompilerMissing):
        raise
    except Exception as error:  # anything that a bug in a pass raises
        raise PassFailed(f"{name} failed: {error!r}") from error


def first_departure(
    translation: Translation, inputs: Sequence[Tensor], agrees: Callable[[Sequence[Tensor]], bool]
) -> str:
    """The pass whose program, interpreted, is the first that is wrong.

    Args:
        inputs: To run it on.
        agrees: Whether outputs (all of them, states first) are right.
    """
    forms: dict[str, Graph | Schedule | Layout] = {
        "lowering": translation.graph,
        "folding": translation.folded,
        "scheduling": translation.schedule,
        "memory": translation.layout,
    }
    for name, form in forms.items():
        try:
            right = agrees(interpret(form, inputs))
        except Exception:  # a program that can't be interpreted is wrong, whatever the reason
            right = False
        if not right:
            return name
    return LAST
