"""Values that are read out of the arguments while a program is captured, as in `range(lengths.max())`: they are built in, and the program is valid for arguments with the
same values."""

from __future__ import annotations

import functools
import hashlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..pair.device import line_among
from ..validation import vmap
from .chosen import Chosen, ShapeOfDraws
from .known import Known
from .noise import Recorder
from .record import node_of
from .trace import LOOKED_AT

WHOLE = (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__)
"""Functions that return all of a tensor's values without torch's tracer noticing."""
SHORT = 64  # maximum size in bytes of values that are kept for comparison
BY_PLACES = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)
PACKS = torch.ops.aten._pack_padded_sequence.default
ROOM = 2**24  # numbers of the data that are checked at once


@dataclass(frozen=True)
class Guards:
    """Values of the arguments that a program has built in.

    Attributes:
        graph: (uniforms, *arguments) → the values that are read.
        kept: The values that were read during capture.
        line: The line of the user's code where the first of them is read.
        of_rows: Whether they also depend on rows that a plate draws.
    """

    graph: GraphModule
    kept: tuple[Tensor, ...]
    line: str
    of_rows: bool

    def values(self, uniforms: Tensor, args: Any) -> tuple[bytes, ...]:
        """The values that are read of other arguments, to compare them."""
        return tuple(map(_bits, self.graph(uniforms, *tree_leaves(args))))

    @property
    def own(self) -> tuple[bytes, ...]:
        """The `values` of the arguments that the program was captured with."""
        return tuple(map(_bits, self.kept))

    def hold(self, uniforms: Tensor, args: Any) -> Tensor:
        """() whether the program is valid for these arguments."""
        read = self.graph(uniforms, *tree_leaves(args))
        return torch.stack([_same(now, kept) for now, kept in zip(read, self.kept, strict=True)]).all()

    def hold_in(self, uniforms: Tensor, columns: Sequence[Any], index: Tensor | None) -> Tensor:
        """(n,) whether the program is valid for each of n minibatches.

        Args:
            uniforms: (n, u).
            columns: The whole data.
            index: (n, M) row numbers; None for all rows in each.
        """
        if index is None:
            return vmap(lambda one: self.hold(one, tuple(columns)))(uniforms)
        used = [bool(node.users) for node in self.graph.graph.find_nodes(op="placeholder")][1:]

        def one(uniforms: Tensor, rows: Tensor) -> Tensor:
            taken = (c.index_select(0, rows) if asked else c for c, asked in zip(columns, used, strict=True))
            return self.hold(uniforms, tuple(taken))

        wide = sum(c[0].numel() for c, asked in zip(columns, used, strict=True) if asked) * index.shape[1]
        return vmap(one, chunk_size=max(1, ROOM // max(1, wide)))(uniforms, index)

    def times_one(self, x: Tensor, uniforms: Tensor, args: Any) -> Tensor:
        """() x; but NaN, with a NaN gradient, if the program is not valid for these arguments, so that a run without a check can't give a wrong result."""
        one = torch.where(self.hold(uniforms, args), torch.ones_like(x), torch.nan)
        if (node := node_of(one)) is not None:
            node.meta[LOOKED_AT] = True
        return x * one


class Reads(TorchDispatchMode):
    """While a function is traced, lets it read values of tensors that depend only on its arguments, and records them.

    Reading any other value stops the trace, as usual.

    Args:
        args: The last arguments of the traced function; those before them are uniforms.
        of_rows: Whether rows that plates draw are also known before a step.
        buffers: The number of inputs before the noise that are buffers of modules.

    Attributes:
        guards: The values that were read, if any.
        rows: The rows that plates drew, for the program.
    """

    def __init__(self, args: Any, *, of_rows: bool = False, buffers: int = 0) -> None:
        super().__init__()
        self._of_rows, self._buffers = of_rows, buffers
        self.rows: tuple[Tensor, ...] = ()
        self._arguments = len(tree_leaves(args))
        self._found: dict[Node, tuple[Tensor, str]] = {}
        self._drawn: Recorder | None = None
        self.guards: Guards | None = None
        self._chosen: Chosen | None = None

    @contextmanager
    def noted(self, recorder: Recorder | None = None) -> Iterator[None]:
        """Context in which values can be read; afterwards `guards` is set.

        Args:
            recorder: The recorder that gives rows to plates.
        """
        self._drawn = recorder if self._of_rows else None
        if (mode := get_proxy_mode()) is None:
            yield
            return
        self._root, self._found = mode.tracer.root, {}  # type: ignore[union-attr]
        inputs = list(mode.tracer.graph.find_nodes(op="placeholder"))
        noise = len(inputs) - self._arguments - 2  # normals, and then uniforms
        self._inputs = inputs[noise + 1 :]
        self._known = Known(self._root, self._inputs[0], self._inputs[1:], inputs[noise - self._buffers : noise])
        self._chosen = Chosen(self.moves)
        with self._chosen, _Whole(self), self:
            yield
            self.guards = self._made()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.equal.default and args[0].shape == args[1].shape:
            same = (args[0] == args[1]).all()
            return self.read(same, same.item) if self.known(same) else func(*args)
        if func is torch.ops.aten._local_scalar_dense.default and self.known(args[0]):
            return self.read(args[0], lambda: func(*args))
        if func is PACKS:  # recurrent layers read the lengths past the dispatcher
            if self.known(args[1]):
                return self._packed(*args)
            if self.moves(args[1]):
                raise ShapeOfDraws
        elif func in BY_PLACES:
            args = (args[0], self._places(args[1]), *args[2:])
        elif torch.Tag.dynamic_output_shape in func.tags and self._all_known(tensors := only_tensors((args, kwargs))):
            for tensor in tensors:
                self.read(tensor, lambda: None)
            with disable_proxy_modes_tracing():
                return func(*args, **(kwargs or {}))
        if torch.Tag.dynamic_output_shape in func.tags and not (self._chosen and self._chosen.taking):
            if any(map(self.moves, _deciding(func, args))):
                raise ShapeOfDraws
        return func(*args, **(kwargs or {}))

    def _packed(self, padded: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
        """Packed sequences, as recurrent layers take them: for each time step, the rows of the sequences that are long enough; and the number of these."""
        lengths = self.read(lengths, lengths.clone)
        with disable_proxy_modes_tracing():
            there = torch.arange(int(lengths.max()), device=lengths.device)[:, None] < lengths
            sizes, (step, row) = there.sum(1), (places.to(padded.device) for places in there.nonzero(as_tuple=True))
        return padded[(row, step) if batch_first else (step, row)], sizes

    def moves(self, tensor: Tensor) -> bool:
        """Whether it depends on a draw or a parameter."""
        node = node_of(tensor)
        return node is not None and self._known.moves(node)

    def _all_known(self, tensors: Sequence[Tensor]) -> bool:
        return bool(tensors) and all(self.known(tensor) for tensor in tensors)

    def _places(self, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Replaces masks that are `known`, such as those of missing values, by indices, as a program has fixed shapes."""
        found: list[Tensor | None] = []
        for index in indices:
            if index is not None and index.dtype == torch.bool and self.known(index):
                found += self.read(index, functools.partial(index.nonzero, as_tuple=True))
            else:
                found.append(index)
        return found

    def known(self, tensor: Tensor) -> bool:
        """Whether it depends only on arguments, rows and constants."""
        return self._given(tensor) is not None

    def constant(self, tensor: Tensor) -> bool:
        """Whether it depends only on constants, like the row numbers of a plate that shows all of its rows."""
        return self._given(tensor) is False

    def _given(self, tensor: Tensor) -> bool | None:
        node = node_of(tensor)
        return None if node is None else self._known.given(node, map(node_of, self._drawn.rows if self._drawn else ()))

    def read(self, tensor: Tensor, get: Callable[[], Any]) -> Any:
        """What `get` returns for the values of a tensor that is `known`."""
        node, given = node_of(tensor), not self.constant(tensor)
        assert node is not None
        with disable_proxy_modes_tracing():
            if given and node not in self._found:
                self._found[node] = tensor.detach().clone(), line_among(traceback.extract_stack())
            return get()

    def _made(self) -> Guards | None:
        """A graph of the values that were read, as they were when they were read, even if their tensors have been overwritten since."""
        if not self._found:
            return None
        needed = self._known.behind(self._found)
        graph, copied = Graph(), dict[Node, Node]()
        for place, node in enumerate(self._inputs):
            copied[node] = graph.placeholder(f"given_{place}")
        for node in next(iter(self._found)).graph.nodes:
            if node in needed and node not in copied:
                copied[node] = graph.node_copy(node, copied.__getitem__)
        graph.output(tuple(copied[node] for node in self._found))
        kept, lines = zip(*self._found.values(), strict=True)
        return Guards(GraphModule(self._root, graph), kept, lines[0], self._inputs[0] in needed)


def _deciding(func: Any, args: Any) -> list[Tensor]:
    """The tensors whose values determine the shape of a result."""
    decides = args[1] if func in BY_PLACES else args
    return [leaf for leaf in only_tensors(decides) if func not in BY_PLACES or leaf.dtype == torch.bool]


def only_tensors(nest: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor)]


class _Whole(TorchFunctionMode):
    """Handles reads of a tensor that bypass torch's dispatcher, for `Reads`."""

    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.item and self._reads.constant(args[0]):
            with disable_proxy_modes_tracing():  # else it stays a tensor, which needs no guard
                return func(*args)
        if func in WHOLE and node_of(args[0]) is not None:
            if self._reads.known(args[0]):
                return self._reads.read(args[0], lambda: func(*args, **kwargs))
            raise RuntimeError("data-dependent: all values of a tensor are read")
        return func(*args, **kwargs)


def _same(now: Tensor, kept: Tensor) -> Tensor:
    with disable_proxy_modes_tracing():
        none = kept != kept  # NaN, which does not equal itself
        some, alone = bool(none.any()), kept.item() if kept.dim() == 0 else kept
    if not some:
        return (now == alone).all()
    return (now != now if kept.dim() == 0 else (now == kept) | (now != now) & none).all()


def _bits(tensor: Tensor) -> bytes:
    bits: bytes = tensor.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy().tobytes()
    return bits if len(bits) <= SHORT else hashlib.sha256(bits).digest()
