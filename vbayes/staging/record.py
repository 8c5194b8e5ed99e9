"""Records a function's operations as a graph while it runs: the same as `make_fx` without decompositions, in a quarter of its time.

`make_fx` supports tracers of every kind, with symbolic shapes and tensor subclasses, and spends about half a millisecond per operation on checking for them;
a time loop in Pyro has a hundred operations per step.
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
    """Records the operations that a function runs on nested tensors; numbers among the arguments are built in.

    Each node stores a tensor like its result, without the values, in `meta["val"]`.

    Raises:
        RuntimeError: The function reads a value out of a tensor that depends on its arguments.
        NotImplementedError: It uses a higher-order operation, such as `torch.cond`.
    """
    mode, takes, returns = recording(fn, *examples)
    names = [f"argument_{number}" for number in range(len(examples))]
    mode.graph.set_codegen(_PyTreeCodeGen(_PyTreeInfo(names, takes, returns)))
    return GraphModule(mode.root, mode.graph)


def recording(fn: Callable[..., Any], *examples: Any) -> tuple[Recording, TreeSpec, TreeSpec]:
    """Like `record`, but returns the `Recording` with the graph and its constants, and the tree structures of the arguments and of the results."""
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
    """Mode in which tensors have shapes but no values. It is cached, as making one takes a hundredth of a second."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def node_of(tensor: Tensor) -> Node | None:
    """The node of a tensor that is being traced by `record` or `make_fx`."""
    mode = get_proxy_mode()
    if isinstance(mode, Recording):
        return mode.known(tensor)
    slot = None if mode is None else get_proxy_slot(tensor, mode.tracer, None)
    return None if slot is None else slot.proxy.node  # type: ignore[attr-defined]


def overwrites(node: Node) -> bool:
    """Whether an operation writes into one of its arguments."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


class Recording(ProxyTorchDispatchMode):
    """Dispatch mode that records each operation in a graph, below autograd and `vmap`."""

    def __init__(self) -> None:
        super().__init__(self, "real")  # type: ignore[arg-type]
        self.graph, self.root = Graph(), torch.nn.Module()
        self.enable_thunkify = False
        self._nodes: Any = WeakTensorKeyDictionary()
        self._constants: Any = WeakTensorKeyDictionary()  # computed only from constants written in the program
        self._overwritten: set[StorageWeakRef | None] = (
            set()
        )  # storages that were written to, through any view: not constants
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
        """The node that computes a tensor; for a tensor from outside the graph, a node that holds it as a constant."""
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
        """The node that computes a tensor; None for a tensor from outside the graph."""
        return self._nodes.get(tensor)  # type: ignore[no-any-return]

    def note(self, tensor: Tensor, node: Node) -> None:
        self._nodes[tensor] = node
        node.meta["val"] = self._without(tensor)

    def _is_overwritten(self, tensor: Tensor) -> bool:
        return bool(self._overwritten) and _storage(tensor) in self._overwritten

    def _note_writes(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Tensors that share memory with one that is written to are no longer constants; the tensor itself may be one, if a constant is written to it."""
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
        """A tensor of the same kind without values. It is shared by all tensors of that kind, as a long program has only a handful of kinds."""
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
    """The current line of the user's code inside the traced function; empty if there is none."""
    frames = traceback.extract_stack()
    begin = max(number for number, frame in enumerate(frames) if frame.name == recording.__name__)
    return line_among(frames[begin:])


@functools.cache
def _composite(func: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))


def _storage(tensor: Tensor) -> StorageWeakRef | None:
    return StorageWeakRef(tensor.untyped_storage()) if tensor.layout == torch.strided else None
