"""Compiles a Python function of tensors to machine code: traces it, compiles it by `native`, and compares it with torch before it is used."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from .. import rng
from ..errors import warn
from .inline import Overwrites, copying
from .layouts import in_order
from .masks import ShapeOfValues, require_fixed_shapes, with_known_places
from .native import CompilerMissing, Native, PassFailed, Unsupported, first_departure, supported, translate
from .record import overwrites
from .trace import in_words, known_limit, trace

Function = Callable[..., Sequence[Tensor]]
NO_FACTOR = "a matrix in it has no factor at the numbers that it was to be tried on"


def compile_native(fn: Function, examples: Sequence[Tensor], states: int = 0) -> Native:
    """Compiles a function of tensors to machine code.

    Args:
        fn: A pure function from tensors to a sequence of tensors, with static shapes, on the CPU.
        examples: Tensors with the shapes and types that it will be called with.
        states: The number of leading inputs that are overwritten with the first outputs, for the next run.

    Raises:
        Unsupported: An operation has no C form.
        CompilerMissing: There is no C compiler, or it fails.
    """
    return Native(translate(simplified(fn, examples), states))


def compiled_or_why(fn: Function, examples: Sequence[Tensor], states: int = 0) -> tuple[Native | None, str | None]:
    """Calls `compile_native`, or returns the reason why that failed. A missing compiler or a bug of ours is reported once."""
    try:
        graph = simplified(fn, examples)
        native = Native(translate(graph, states))
        wrong = _wrong(native, graph, fn, examples)
    except Unsupported as error:
        why = f"there is no machine code for {error}"
        if isinstance(error, ShapeOfValues):  # the model can be rewritten with torch.where, and is then fast
            say_once(f"{why}. Wanted: fixed shapes, as in torch.where(x > 0, ..., 0.0)")
        return None, why
    except CompilerMissing as error:
        say_once(f"{error}. Install gcc, or set $CC.")
        return None, str(error)
    except (
        torch.linalg.LinAlgError
    ):  # in the comparison with torch, near the start: not a bug, and later steps may well work
        return None, NO_FACTOR
    except PassFailed as error:
        wrong = f"making machine code failed: {error}"
    except Exception as error:  # a bug in our compiler must not make a fit fail
        if known_limit(error):
            return None, in_words(error)
        wrong = f"making machine code failed: {error!r}"
    if wrong:
        say_once(f"{wrong}. Please report this, with the model.")
        return None, wrong
    return native, None


@functools.cache
def say_once(reason: str) -> None:
    """Warns that programs are not compiled, once for each reason, until `say_once.cache_clear()`."""
    warn(f"Programs are interpreted by torch, which is many times slower: {reason}")


def _wrong(native: Native, graph: GraphModule, fn: Function, examples: Sequence[Tensor]) -> str:
    """The output that differs from that of the function, and the first pass at which it does; empty if all agree up to rounding."""
    states = native.states
    inputs = [*(t.clone(memory_format=torch.contiguous_format) for t in examples[:states]), *examples[states:]]
    outputs = native(*inputs)
    with torch.no_grad(), rng.seeded(0):
        right = fn(*examples)
    number = differing([*inputs[:states], *outputs], right, examples)
    if number is None:
        return ""
    since = _first_wrong(native, graph, examples, right)
    return f"machine code's numbers differ from torch's for output {number}; the first pass with different numbers is {since}"


def _first_wrong(native: Native, graph: GraphModule, examples: Sequence[Tensor], right: Sequence[Tensor]) -> str:
    with torch.no_grad():
        traced = graph(*examples)
    if differing(traced, right, examples) is not None:
        return "tracing"
    return first_departure(native.translation, examples, lambda made: differing(made, right, examples) is None)


def differing(
    mine: Sequence[Tensor], right: Sequence[Tensor], examples: Sequence[Tensor], products: float = 0.0
) -> int | None:
    """The first output whose numbers differ from torch's by more than rounding.

    Args:
        products: The relative rounding of products, where that is larger than of the numbers themselves.
    """
    coarsest = max((torch.finfo(t.dtype).eps for t in [*examples, *right] if t.is_floating_point()), default=0.0)
    sizes = [_largest(theirs) for theirs in right]
    for number, (one, theirs) in enumerate(zip(mine, right, strict=True)):
        # Half of the digits; for numbers that cancel to nearly zero, only the digits that the size of the others allows.
        rounding = max(coarsest, products) ** 0.5 * sizes[number] + max(100 * coarsest, products) * max(sizes)
        near = rounding if theirs.is_floating_point() else 0.0
        if not torch.allclose(one, theirs, rtol=0.0, atol=near, equal_nan=True):
            return number
    return None


def _largest(tensor: Tensor) -> float:
    if not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    return float(tensor.abs().nan_to_num(posinf=0.0).max())


def simplified(
    fn: Function, examples: Sequence[Tensor], known: Callable[[torch._ops.OpOverload], bool] = supported
) -> GraphModule:
    """The graph of a function, without mutation, and as far as possible in operations that a back end supports (those with a C form)."""
    table = {op: rule for op, rule in decomposition_table.items() if not _stays(op, known)}
    with rng.seeded(0):  # tracing runs the function
        graph = _traced(fn, examples, table)
        if graph is None:
            # First gradients, which can't be taken inside functionalize, and normalisation layers, whose rules mutate.
            mutating = {op: rule for op, rule in table.items() if "batch_norm" in str(op)}
            with copying(mutating, overwriting=True):
                captured = with_known_places(
                    trace(lambda *inputs: list(fn(*inputs)), *examples, decompositions=mutating)
                )
            require_fixed_shapes(captured)
            functional = torch.func.functionalize(captured, remove="mutations")
            graph = trace(functional, *examples, decompositions=table)
        in_order(graph).graph.eliminate_dead_code()
        # The tracer has recorded the result of each node; running all of them again took a quarter of the compile time.
        if any("val" not in node.meta for node in graph.graph.nodes if node.op not in ("get_attr", "output")):
            FakeTensorProp(graph, FakeTensorMode(allow_non_fake_inputs=True)).propagate(*examples)
    return graph


def _traced(fn: Function, examples: Sequence[Tensor], table: Mapping[Any, Callable[..., Any]]) -> GraphModule | None:
    """The graph of a function, with the operations of a table decomposed; None if it overwrites something."""
    try:
        with copying(table):
            graph = with_known_places(trace(lambda *inputs: list(fn(*inputs)), *examples, decompositions=table))
    except Overwrites:
        return None
    require_fixed_shapes(graph)
    return None if any(map(overwrites, graph.graph.nodes)) else graph


def _stays(op: Any, known: Callable[[torch._ops.OpOverload], bool]) -> bool:
    return isinstance(op, torch._ops.OpOverload) and op.namespace in ("aten", "prims") and known(op)
