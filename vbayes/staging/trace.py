"""torch's tracer of tensor operations, as it is used here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx


def trace(fn: Callable[..., Any], *examples: Any, decompositions: Mapping[Any, Any] | None = None) -> GraphModule:
    """The operations that a function runs on these examples, as a graph.

    Args:
        decompositions: Operation → a function that does the same in others.
    """
    # With a context, each node's shape is noted by one and the same mode; otherwise torch makes one for each node, with
    # a stack trace of its own, and takes twice as long.
    with tracing(TracingContext(FakeTensorMode())):
        return make_fx(fn, decomposition_table=dict(decompositions or {}))(*examples)
