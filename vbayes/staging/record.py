"""A function's operations as a graph, each noted as it runs: what `make_fx` does without decompositions, in a quarter of its time.

`make_fx` serves tracers of every kind, with symbolic shapes and subclasses of tensors, and asks after them at each operation, some half a millisecond long;
a time loop of Pyro's has a hundred operations a step.
"""

from __future__ import annotations

import functools
import operator
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import (
    ProxyTorchDispatchMode,
    disable_autocast_cache,
    get_proxy_mode,
    get_proxy_slot,
)
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.fx.node import map_aggregate
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import autograd_would_have_decomposed
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten
from torch.utils.weak import WeakTensorKeyDictionary

from ..pair.device import line_among
from .native import supported

aten = torch.ops.aten
FEW = 1000  # elements up to which the value of a constant is kept, in case it is asked for


def record(fn: Callable[..., Any], *examples: Any) -> GraphModule:
    """The operations that a function runs on nests of tensors; a number among these is built in.

    Each node notes what it makes (`meta["val"]`), without its numbers.

    Raises:
        RuntimeError: The function reads a value out of a tensor that depends on its arguments.
        NotImplementedError: It uses an operation of higher order, as `torch.cond`.
    """
    mode, takes, returns = recording(fn, *examples)
    names = [f"argument_{number}" for number in range(len(examples))]
    mode.graph.set_codegen(_PyTreeCodeGen(_PyTreeInfo(names, takes, returns)))
    return GraphModule(mode.root, mode.graph)


def recording(fn: Callable[..., Any], *examples: Any) -> tuple[Recording, TreeSpec, TreeSpec]:
    """`record`, before it is a module: what has the graph and its constants; the form of the nest that it takes, and of the one that it returns."""
    leaves, takes = tree_flatten(examples)
    mode = Recording()
    for number, leaf in enumerate(leaves):
        place = mode.graph.placeholder(f"arg_{number}")
        if isinstance(leaf, Tensor):
            mode.note(leaf, place)
    with disable_autocast_cache(), mode:
        made, returns = tree_flatten(fn(*examples))
    mode.graph.output([mode.node(each) if isinstance(each, Tensor) else each for each in made])
    return mode, takes, returns


@functools.cache
def without_numbers() -> FakeTensorMode:
    """Where tensors have shapes alone; to make one of these took a hundredth of a second."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def node_of(tensor: Tensor) -> Node | None:
    """Of a tensor that is traced, by `record` or by `make_fx`, while it is."""
    mode = get_proxy_mode()
    if isinstance(mode, Recording):
        return mode.known(tensor)
    slot = None if mode is None else get_proxy_slot(tensor, mode.tracer, None)
    return None if slot is None else slot.proxy.node  # type: ignore[attr-defined]


def overwrites(node: Node) -> bool:
    """Whether an operation writes into one of its arguments."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


class Recording(ProxyTorchDispatchMode):
    """A graph under way: is asked for each operation, below autograd and `vmap`."""

    def __init__(self) -> None:
        super().__init__(self, "real")  # type: ignore[arg-type]
        self.graph, self.root = Graph(), torch.nn.Module()
        self.enable_thunkify = False
        self._nodes: Any = WeakTensorKeyDictionary()
        self._constants: Any = WeakTensorKeyDictionary()  # made from nothing but what is written in the program
        self._overwritten: set[StorageWeakRef | None] = (
            set()
        )  # what has been written to, by whatever view, is no constant
        self._held: dict[int, Node] = {}
        self._noted: dict[Any, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return func(*args, **kwargs)
        if _composite(func) and autograd_would_have_decomposed(func, tree_leaves((args, kwargs))):
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        if func is aten.is_nonzero.default:
            with self:
                return (args[0] != 0).item()
        known: list[Tensor | None] = []

        def node_of(argument: Any) -> Any:
            if isinstance(argument, Tensor) and argument in self._nodes:
                known.append(None if self._is_overwritten(argument) else self._constants.get(argument))
            return self.node(argument) if isinstance(argument, (Tensor, torch.Generator)) else argument

        nodes, named = map_aggregate((tuple(args), kwargs), node_of)  # type: ignore[misc]
        constant = all(value is not None for value in known)
        if torch.Tag.data_dependent_output in func.tags:
            if not constant:
                raise RuntimeError(f"{func} reads a value out of a tensor that is traced")
            return self._of_constants(func, args, kwargs)
        if func is aten.lift_fresh.default:
            func = aten.lift_fresh_copy.default
        node = self.graph.call_function(func, nodes, named)
        if _may_lack_code(func):
            node.meta["line"] = _line()
        out = func(*args, **kwargs)
        self._note_all(out, node)
        if isinstance(out, Tensor):
            value = None
            if func is aten.lift_fresh_copy.default:
                value = args[0].clone()
            elif known and constant and out.numel() <= FEW and torch.Tag.nondeterministic_seeded not in func.tags:
                value = self._of_constants(func, args, kwargs)
            if value is not None:
                self._constants[out] = value
            else:  # it may have been overwritten
                self._constants.pop(out, None)
        if func._schema.is_mutable:
            self._note_writes(func, args, kwargs, out)
        return out

    def node(self, held: Tensor | torch.Generator) -> Node:
        """That which makes a tensor; of what comes from elsewhere, one that has it."""
        if isinstance(held, Tensor) and (node := self._nodes.get(held)) is not None:
            return node  # type: ignore[no-any-return]
        if id(held) not in self._held:
            name = f"_constant_{len(self._held)}"
            setattr(self.root, name, held)
            self._held[id(held)] = node = self.graph.get_attr(name)
            if isinstance(held, Tensor):
                node.meta["val"] = self._without(held)
        return self._held[id(held)]

    def known(self, tensor: Tensor) -> Node | None:
        """That which makes a tensor; None of what comes from elsewhere."""
        return self._nodes.get(tensor)  # type: ignore[no-any-return]

    def note(self, tensor: Tensor, node: Node) -> None:
        self._nodes[tensor] = node
        node.meta["val"] = self._without(tensor)

    def _is_overwritten(self, tensor: Tensor) -> bool:
        return bool(self._overwritten) and _storage(tensor) in self._overwritten

    def _note_writes(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """What shares the memory of a tensor that is written to is no constant any more; the tensor itself may be one, if another constant is written."""
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            written = args[place] if place < len(args) else kwargs.get(argument.name)
            for tensor in (leaf for leaf in tree_leaves(written) if isinstance(leaf, Tensor)):
                storage = _storage(tensor)
                if tensor is not out or tensor not in self._constants:
                    self._overwritten.add(storage)
                for other in [each for each in self._constants if each is not out and _storage(each) == storage]:
                    del self._constants[other]

    def _note_all(self, out: Any, node: Node) -> None:
        if isinstance(out, Tensor):
            self.note(out, node)
        elif isinstance(out, (tuple, list)):
            node.meta["val"] = type(out)(self._without(e) if isinstance(e, Tensor) else e for e in out)
            for number, each in enumerate(out):
                if isinstance(each, Tensor):
                    self.note(each, self.graph.call_function(operator.getitem, (node, number)))

    def _without(self, tensor: Tensor) -> Any:
        """A tensor of the same kind without its numbers: one for all of a kind, of which a long program has a handful."""
        if tensor.layout != torch.strided:
            return None
        kind = tensor.shape, tensor.stride(), tensor.dtype, tensor.device
        if kind not in self._noted:
            with without_numbers():
                self._noted[kind] = torch.empty_strided(kind[0], kind[1], dtype=kind[2], device=kind[3])
        return self._noted[kind]

    def _of_constants(self, func: Any, args: Any, kwargs: Any) -> Any:
        leaves, spec = tree_flatten((args, kwargs))
        own, named = tree_unflatten(
            [self._constants.get(each, each) if isinstance(each, Tensor) else each for each in leaves], spec
        )
        return func(*own, **named)


@functools.cache
def _may_lack_code(func: Any) -> bool:
    return not supported(func) and func not in decomposition_table


def _line() -> str:
    """Of somebody's code, inside the function that is traced; empty if there is none."""
    frames = traceback.extract_stack()
    begin = max(number for number, frame in enumerate(frames) if frame.name == recording.__name__)
    return line_among(frames[begin:])


@functools.cache
def _composite(func: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))


def _storage(tensor: Tensor) -> StorageWeakRef | None:
    return StorageWeakRef(tensor.untyped_storage()) if tensor.layout == torch.strided else None
