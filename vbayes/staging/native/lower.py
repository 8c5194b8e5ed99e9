"""A captured graph of ATen operations, lowered to values."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from .ir import (
    Assembly,
    Cholesky,
    Counter,
    Extreme,
    Gather,
    Given,
    Pointwise,
    Product,
    Reduction,
    Scan,
    Scatter,
    Triangular,
    Unsupported,
    View,
)
from .ops import ARITHMETIC, BITS, INTEGERS, LOGIC, TYPES

Operand = View | float | int | bool
RULES: dict[str, Callable[..., Any]] = {}
REDUCTIONS = ("sum", "prod", "amax", "amin", "any", "all")


def rule(*names: str) -> Callable[..., Any]:
    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(names, fn))
        return fn

    return register


def supported(op: Any) -> bool:
    """Whether an ATen operation needs no decomposition."""
    name = op._schema.name.split("::")[1]
    return name in RULES or name in ARITHMETIC or name in LOGIC or name in BITS or name in REDUCTIONS or op.is_view


class Lowering:
    """Walks a graph once.

    Attributes:
        inputs: One for each placeholder.
        constants: Tensors that the graph holds.
        outputs: What the graph returns, whole.
    """

    def __init__(self, graph: GraphModule) -> None:
        self.inputs: list[Given] = []
        self.constants: list[Given] = []
        self.outputs: list[View] = []
        env: dict[Node, Any] = {}
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                tensor = node.meta["val"]
                self.inputs.append(Given(tuple(tensor.shape), _known(tensor.dtype)))
                env[node] = View.whole(self.inputs[-1])
            elif node.op == "get_attr":
                tensor = getattr(graph, node.target)
                if tensor.numel() == 1 and tensor.dim() == 0:
                    env[node] = tensor.item()
                else:
                    self.constants.append(Given(tuple(tensor.shape), _known(tensor.dtype), constant=tensor))
                    env[node] = View.whole(self.constants[-1])
            elif node.op == "output":
                self.outputs = [self._array(env[a], a) for a in node.args[0]]
            else:
                args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), env.__getitem__)
                env[node] = self._call(node, args, kwargs)

    def _array(self, operand: Operand, node: Node) -> View:
        return operand if isinstance(operand, View) else fill((), node.meta["val"].dtype, operand)

    def _call(self, node: Node, args: Any, kwargs: Any) -> Any:
        if node.target is operator.getitem:
            return args[0][args[1]]
        op: Any = node.target
        if not isinstance(op, torch._ops.OpOverload):
            raise Unsupported(str(op))
        name = op._schema.name.split("::")[1]
        if name in RULES:
            return RULES[name](node, *args, **kwargs)
        if op.is_view:
            return _view(op, args, kwargs)
        if name in ARITHMETIC or name in BITS:
            return _arithmetic(node, name, args, kwargs)
        if name in LOGIC:
            return _logic(node, name, args)
        if name in REDUCTIONS:
            return _reduce(node, name, *args, **kwargs)
        raise Unsupported(str(op))


def _known(dtype: torch.dtype) -> torch.dtype:
    if dtype not in TYPES:
        raise Unsupported(f"a tensor of {dtype}")
    return dtype


def _out(node: Node) -> dict[str, Any]:
    tensor: Tensor = node.meta["val"]
    return {"shape": tuple(tensor.shape), "dtype": _known(tensor.dtype)}


def fill(shape: Any, dtype: torch.dtype, value: Any) -> View:
    """An array of one value."""
    return View.whole(Pointwise(tuple(shape), _known(dtype), [value], types=[dtype]))


def copied(view: View) -> View:
    """The same, contiguous."""
    if view.is_whole and view.shape == view.value.shape:
        return view
    return View.whole(Pointwise(view.shape, view.value.dtype, [view], types=[view.value.dtype]))


def _pointwise(node: Node, template: str, operands: list[Any], types: list[torch.dtype]) -> View:
    out = _out(node)
    spread = [o.expand(out["shape"]) if isinstance(o, View) else o for o in operands]
    return View.whole(Pointwise(**out, operands=spread, template=template, types=types))


def _view(op: Any, args: Any, kwargs: Any) -> Any:
    base, rest = args[0], args[1:]
    if not isinstance(base, View):
        base = fill((), torch.float64 if isinstance(base, float) else torch.int64, base)
    try:
        meta = op(base.meta, *rest, **kwargs)
    except RuntimeError:  # a shape that these strides can't be seen in
        base = copied(base)
        meta = op(base.meta, *rest, **kwargs)
    return [View(base.value, m) for m in meta] if isinstance(meta, (list, tuple)) else View(base.value, meta)


def _arithmetic(node: Node, name: str, args: Any, kwargs: Any) -> View:
    dtype = node.meta["val"].dtype
    args = list(args)
    template = (BITS if dtype != torch.bool and name in BITS else ARITHMETIC | BITS)[name]
    alpha = kwargs.get("alpha", args.pop(2) if name in ("add", "sub") and len(args) > 2 else 1)
    if alpha != 1:
        return _pointwise(node, "{0} %s {2} * {1}" % ("+" if name == "add" else "-"), [*args, alpha], [dtype] * 3)
    if name == "div" and (mode := kwargs.get("rounding_mode")):
        if not dtype.is_floating_point:
            raise Unsupported(f"div with rounding_mode={mode!r} of integers")
        template = {"floor": "floor{f}({0} / {1})", "trunc": "trunc{f}({0} / {1})"}[mode]
    if name == "round" and (kwargs.get("decimals") or len(args) > 1):
        raise Unsupported("round to decimals")
    if name == "pow":
        return _power(node, *args)
    if not dtype.is_floating_point and name in INTEGERS:
        template = INTEGERS[name]
    if name == "_to_copy":
        args = args[:1]
        if dtype == torch.bool:
            return _pointwise(node, "{0} != 0", args, [args[0].value.dtype])
    if name == "clone":
        args = args[:1]
    return _pointwise(node, template, args, [dtype] * len(args))


def _power(node: Node, base: Any, exponent: Any) -> View:
    dtype = node.meta["val"].dtype
    simple = {0: "1", 0.5: "sqrt{f}({0})", 1: "{0}", 2: "{0} * {0}", 3: "{0} * {0} * {0}", -0.5: "1 / sqrt{f}({0})",
              -1: "1 / {0}", -2: "1 / ({0} * {0})"}  # fmt: skip
    if not isinstance(exponent, View) and exponent in simple and (dtype.is_floating_point or exponent in (1, 2, 3)):
        return _pointwise(node, simple[exponent], [base], [dtype])
    if not dtype.is_floating_point:
        raise Unsupported("pow of integers")
    return _pointwise(node, ARITHMETIC["pow"], [base, exponent], [dtype, dtype])


def _together(args: Any) -> torch.dtype:
    """The type that torch would compare these in."""
    metas = [a.meta if isinstance(a, View) else a for a in args]
    return metas[0].dtype if len(metas) == 1 else torch.result_type(*metas)


def _logic(node: Node, name: str, args: Any) -> View:
    return _pointwise(node, LOGIC[name], list(args), [_together(args)] * len(args))


def _reduce(node: Node, kind: str, operand: View, dims: Any = None, keepdim: bool = False, **_: Any) -> View:
    out = _out(node)
    if not isinstance(operand, View):
        return fill(out["shape"], out["dtype"], operand)
    rank = len(operand.shape)
    dims = [dims] if isinstance(dims, int) else range(rank) if not dims else dims
    gone = tuple(sorted(d % rank for d in dims)) if rank else ()
    kept = tuple(n for d, n in enumerate(operand.shape) if d not in gone)
    if kind in ("any", "all") and operand.value.dtype != torch.bool:
        truth = Pointwise(operand.shape, torch.bool, [operand], template="{0} != 0", types=[operand.value.dtype])
        operand = View.whole(truth)
    if kind in ("amax", "amin", "prod", "sum") and operand.value.dtype == torch.bool and out["dtype"] != torch.bool:
        operand = View.whole(Pointwise(operand.shape, out["dtype"], [operand], types=[out["dtype"]]))
    value = Reduction(kept, out["dtype"], [operand], dims=gone, kind=kind)
    return View(value, torch.empty(kept, dtype=out["dtype"], device="meta").view(out["shape"]))


@rule("mean")
def _mean(node: Node, operand: View, dims: Any = None, keepdim: bool = False, **_: Any) -> View:
    total = _reduce(node, "sum", operand, dims, keepdim)
    count = operand.meta.numel() / max(1, total.meta.numel())
    return _pointwise(node, "{0} / {1}", [total, count], [total.value.dtype] * 2)


@rule("where")
def _where(node: Node, condition: View, yes: Operand, no: Operand) -> View:
    dtype = node.meta["val"].dtype
    return _pointwise(node, "{0} ? {1} : {2}", [condition, yes, no], [torch.bool, dtype, dtype])


@rule("masked_fill")
def _masked_fill(node: Node, base: View, mask: View, value: Operand) -> View:
    return _where(node, mask, value, base)


@rule("clamp", "clamp_min", "clamp_max")
def _clamp(node: Node, base: View, low: Operand | None = None, high: Operand | None = None) -> View:
    if "clamp_max" in str(node.target):
        low, high = None, low
    dtype = node.meta["val"].dtype
    for bound, name in ((low, "maximum"), (high, "minimum")):
        if bound is not None:
            base = _pointwise(node, ARITHMETIC[name], [base, bound], [dtype, dtype])
    return base


@rule("remainder")
def _remainder(node: Node, a: Operand, b: Operand) -> View:
    dtype = node.meta["val"].dtype
    if not dtype.is_floating_point:
        return _pointwise(node, "({0} % {1} + {1}) % {1}", [a, b], [dtype, dtype])
    return _pointwise(node, "{0} - floor{f}({0} / {1}) * {1}", [a, b], [dtype, dtype])


@rule("full", "full_like", "new_full", "scalar_tensor")
def _full(node: Node, *args: Any, **_: Any) -> Any:
    value = args[2] if "new_full" in str(node.target) else args[-1]
    if isinstance(value, View):
        raise Unsupported("full of a tensor")
    return fill(**_out(node), value=value)


@rule("zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")
def _zeros(node: Node, *args: Any, **_: Any) -> View:
    return fill(**_out(node), value=0)


@rule("ones", "ones_like", "new_ones")
def _ones(node: Node, *args: Any, **_: Any) -> View:
    return fill(**_out(node), value=1)


@rule("arange")
def _arange(node: Node, *args: Any, **_: Any) -> View:
    start, step = (args[0] if len(args) > 1 else 0), (args[2] if len(args) > 2 else 1)
    return View.whole(Counter(**_out(node), start=start, step=step))


@rule("iota")
def _iota(node: Node, length: int, *, start: int, step: int, **_: Any) -> View:
    return View.whole(Counter(**_out(node), start=start, step=step))


@rule("mm", "bmm")
def _mm(node: Node, a: View, b: View) -> View:
    return View.whole(Product(**_out(node), operands=[a, b]))


@rule("mv")
def _mv(node: Node, a: View, b: View) -> View:
    n = a.shape[0]
    product = Product((n, 1), node.meta["val"].dtype, [a, View(b.value, b.meta.unsqueeze(1))])
    return View(product, torch.empty((n,), dtype=product.dtype, device="meta"))


@rule("dot")
def _dot(node: Node, a: View, b: View) -> View:
    dtype = node.meta["val"].dtype
    terms = View.whole(Pointwise(a.shape, dtype, [a, b], template="{0} * {1}", types=[dtype] * 2))
    return _reduce(node, "sum", terms)


@rule("addmm")
def _addmm(node: Node, bias: View, a: View, b: View, *, beta: float = 1, alpha: float = 1) -> View:
    dtype = node.meta["val"].dtype
    return _pointwise(node, "{0} * {2} + {1} * {3}" if (beta, alpha) != (1, 1) else "{0} + {1}",
                      [bias, _mm(node, a, b), beta, alpha], [dtype] * 4)  # fmt: skip


@rule("cat")
def _cat(node: Node, arrays: list[View], dim: int = 0) -> View:
    value = Assembly(**_out(node))
    whole, start = View.whole(value).meta, 0
    for array in arrays:
        if array.shape == (0,):  # torch lets it stand for nothing
            continue
        _part(value, whole.narrow(dim, start, array.shape[dim]), array)
        start += array.shape[dim]
    return View.whole(value)


def _part(value: Assembly, where: Tensor, array: View) -> None:
    array = array if array.value.dtype == value.dtype else View.whole(
        Pointwise(array.shape, value.dtype, [array], types=[value.dtype])
    )  # fmt: skip
    value.operands.append(array.expand(where.shape))
    value.parts.append((int(where.storage_offset()), tuple(where.stride()), tuple(where.shape)))


def _replaced(node: Node, base: View, source: View, part: Callable[[Tensor], Tensor]) -> View:
    value = Assembly(**_out(node))
    whole = View.whole(value).meta
    _part(value, whole, base)
    _part(value, part(whole), source)
    return View.whole(value)


@rule("slice_scatter")
def _slice_scatter(
    node: Node, base: View, source: View, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> View:
    return _replaced(node, base, source, lambda w: torch.ops.aten.slice(w, dim, start, end, step))


@rule("select_scatter")
def _select_scatter(node: Node, base: View, source: View, dim: int, index: int) -> View:
    return _replaced(node, base, source, lambda w: w.select(dim, index))


@rule("diagonal_scatter")
def _diagonal_scatter(node: Node, base: View, source: View, offset: int = 0, dim1: int = 0, dim2: int = 1) -> View:
    return _replaced(node, base, source, lambda w: w.diagonal(offset, dim1, dim2))


@rule("constant_pad_nd")
def _pad(node: Node, base: View, pad: list[int], value: float = 0) -> View:
    for i in range(len(pad) // 2):  # a negative padding cuts off
        low, high = (max(0, -n) for n in pad[2 * i : 2 * i + 2])
        base = View(base.value, base.meta.narrow(-1 - i, low, base.shape[-1 - i] - low - high))
    sizes = base.shape

    def inside(whole: Tensor) -> Tensor:
        for i in range(len(pad) // 2):
            whole = whole.narrow(-1 - i, max(0, pad[2 * i]), sizes[-1 - i])
        return whole

    out = _out(node)
    return _replaced(node, fill(**out, value=value), base, inside)


@rule("cumsum")
def _cumsum(node: Node, operand: View, dim: int, **_: Any) -> View:
    out = _out(node)
    return View.whole(Scan(**out, operands=[operand], dim=dim % max(1, len(out["shape"]))))


@rule("index", "_unsafe_index")
def _index(node: Node, base: View, indices: list[View | None]) -> View:
    places, loops, operands = _indexing(base.shape, indices, node.meta["val"].shape)
    return View.whole(Gather(**_out(node), operands=[base, *operands], places=places, loops=loops))


@rule("index_put", "_unsafe_index_put")
def _index_put(node: Node, base: View, indices: list[View | None], values: View, accumulate: bool = False) -> View:
    mask = indices[0]
    if len(indices) == 1 and mask is not None and mask.value.dtype == torch.bool and values.meta.numel() == 1:
        below = (*mask.shape, *[1] * (len(base.shape) - len(mask.shape)))  # a mask of the leading dimensions
        everywhere = View(mask.value, mask.meta.view(below).expand(base.shape))
        one = View(values.value, values.meta.reshape(()).expand(base.shape))
        added = _pointwise(node, "{0} + {1}", [base, one], [base.value.dtype] * 2) if accumulate else one
        return _where(node, everywhere, added, base)
    shape = _indexed_shape(base.shape, indices)
    places, loops, operands = _indexing(base.shape, indices, shape)
    value = Scatter(**_out(node), operands=[copied(base), values.expand(shape), *operands], places=places, loops=loops)
    value.accumulate = accumulate
    return View.whole(value)


def _indexed_shape(shape: tuple[int, ...], indices: list[View | None]) -> tuple[int, ...]:
    probes = [None if i is None else torch.zeros(i.shape, dtype=torch.int64, device="meta") for i in indices]
    return tuple(torch.ops.aten.index(torch.empty(shape, device="meta"), probes).shape)


def _indexing(shape: tuple[int, ...], indices: list[View | None], out: Any) -> tuple[Any, list[int], list[View]]:
    """How the loops of the result and the index arrays make up the indices of the base."""
    given = [d for d, i in enumerate(indices) if i is not None]
    if any(indices[d].value.dtype not in (torch.int64, torch.int32) for d in given):  # type: ignore[union-attr]
        raise Unsupported("indexing by a mask")
    block = torch.broadcast_shapes(*(indices[d].shape for d in given))  # type: ignore[union-attr]
    together = given == list(range(given[0], given[-1] + 1))
    at = given[0] if together else 0  # where the index's own dimensions come in the result
    operands: list[View] = []
    places: list[int | None] = [None] * len(shape)
    for d in given:
        view: View = indices[d]  # type: ignore[assignment]
        seen = view.meta.expand(block)
        for _ in range(at):
            seen = seen.unsqueeze(0)
        for _ in range(len(out) - at - len(block)):
            seen = seen.unsqueeze(-1)
        places[d] = len(operands)
        operands.append(View(view.value, seen.expand(out)))
    free = [d for d in range(len(out)) if not at <= d < at + len(block)]
    return places, free, operands


@rule("gather")
def _gather(node: Node, base: View, dim: int, index: View, **_: Any) -> View:
    rank = len(base.shape)
    dim = dim % max(rank, 1)
    places: list[int | None] = [0 if d == dim else None for d in range(rank)]
    loops = [d for d in range(rank) if d != dim]
    return View.whole(Gather(**_out(node), operands=[base, index], places=places, loops=loops))


@rule("scatter_add")
def _scatter_add(node: Node, base: View, dim: int, index: View, source: View) -> View:
    rank = len(base.shape)
    dim = dim % max(rank, 1)
    places: list[int | None] = [0 if d == dim else None for d in range(rank)]
    loops = [d for d in range(rank) if d != dim]
    if source.shape != index.shape:
        raise Unsupported("scatter of a part")
    return View.whole(Scatter(**_out(node), operands=[copied(base), source, index], places=places, loops=loops))


@rule("scatter")
def _scatter_over(node: Node, base: View, dim: int, index: View, source: Operand, **_: Any) -> View:
    if not isinstance(source, View):
        source = fill((), base.value.dtype, source).expand(index.shape)
    view = _scatter_add(node, base, dim, index, source)
    view.value.accumulate = False  # type: ignore[attr-defined]
    return view


@rule("max", "min")
def _extreme(node: Node, operand: View, other: Any = None, keepdim: bool = False) -> Any:
    kind = "amax" if "max" in str(node.target) else "amin"
    if isinstance(other, View):
        return _pointwise_of(node, "maximum" if kind == "amax" else "minimum", operand, other)
    if other is None:
        return _reduce(node, kind, operand)
    values, indices = node.meta["val"]
    dim = other % max(1, len(operand.shape))
    kept = tuple(n for d, n in enumerate(operand.shape) if d != dim)
    best = Reduction(kept, operand.value.dtype, [operand], dims=(dim,) if operand.shape else (), kind=kind)
    where = Extreme(kept, torch.int64, [operand], dim=dim, kind=kind)
    return [
        View(v, torch.empty(kept, dtype=v.dtype, device="meta").view(m.shape))
        for v, m in ((best, values), (where, indices))
    ]


def _pointwise_of(node: Node, name: str, *operands: View) -> View:
    return _pointwise(node, ARITHMETIC[name], list(operands), [node.meta["val"].dtype] * len(operands))


@rule("argmax", "argmin")
def _arg_extreme(node: Node, operand: View, dim: int | None = None, keepdim: bool = False) -> View:
    if dim is None:
        operand = View(copied(operand).value, copied(operand).meta.reshape(-1))
        dim = 0
    dim = dim % max(1, len(operand.shape))
    kept = tuple(n for d, n in enumerate(operand.shape) if d != dim)
    where = Extreme(kept, torch.int64, [operand], dim=dim, kind="amax" if "argmax" in str(node.target) else "amin")
    return View(where, torch.empty(kept, dtype=torch.int64, device="meta").view(node.meta["val"].shape))


@rule("index_select")
def _index_select(node: Node, base: View, dim: int, index: View) -> View:
    dim = dim % len(base.shape)
    return _index(node, base, [None] * dim + [index])


@rule("embedding")
def _embedding(node: Node, weight: View, index: View, *_: Any) -> View:
    return _index(node, weight, [index])


@rule("copy")
def _copy(node: Node, base: View, source: Operand, *_: Any) -> View:
    dtype = node.meta["val"].dtype
    return _pointwise(node, "{0}", [source], [dtype])


@rule("_unsafe_view", "_reshape_copy")
def _unsafe_view(node: Node, base: View, shape: Any) -> View:
    return _view(torch.ops.aten.view.default, (base, shape), {})  # type: ignore[no-any-return]


@rule("var")
def _var(
    node: Node,
    operand: View,
    dims: Any = None,
    unbiased: bool = True,
    keep: bool = False,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> View:
    if isinstance(dims, bool):  # var(x, unbiased)
        dims, unbiased = None, dims
    keepdim = keep or keepdim
    correction = float(unbiased) if correction is None else correction
    dtype, rank = node.meta["val"].dtype, len(operand.shape)
    given = [dims] if isinstance(dims, int) else range(rank) if not dims else dims
    gone = tuple(sorted(d % rank for d in given)) if rank else ()
    kept = tuple(n for d, n in enumerate(operand.shape) if d not in gone)
    beside = tuple(1 if d in gone else n for d, n in enumerate(operand.shape))
    sums = View(
        Reduction(kept, dtype, [operand], dims=gone), torch.empty(kept, dtype=dtype, device="meta").view(beside)
    )
    number = operand.meta.numel() / max(1, sums.meta.numel())
    mean = View.whole(Pointwise(beside, dtype, [sums, number], template="{0} / {1}", types=[dtype] * 2))
    spread = mean.expand(operand.shape)
    squares = Pointwise(operand.shape, dtype, [operand, spread], "({0} - {1}) * ({0} - {1})", [dtype] * 2)
    total = _reduce(node, "sum", View.whole(squares), dims, keepdim)
    count = operand.meta.numel() / max(1, total.meta.numel()) - correction
    return _pointwise(node, "{0} / {1}", [total, count], [dtype] * 2)


@rule("flip")
def _flip(node: Node, base: View, dims: list[int]) -> View:
    for dim in dims:
        n = base.shape[dim]
        indices: list[View | None] = [None] * len(base.shape)
        indices[dim] = View.whole(Counter((n,), torch.int64, start=n - 1, step=-1))
        places, loops, operands = _indexing(base.shape, indices[: dim % len(base.shape) + 1], base.shape)
        base = View.whole(Gather(base.shape, base.value.dtype, [base, *operands], places=places, loops=loops))
    return base


@rule("bitwise_not")
def _not(node: Node, operand: View) -> View:
    dtype = operand.value.dtype
    return _pointwise(node, "!{0}" if dtype == torch.bool else "~{0}", [operand], [dtype])


@rule("polygamma")
def _polygamma(node: Node, n: int, operand: View) -> View:
    if n not in (0, 1):
        raise Unsupported(f"polygamma of order {n}")
    return _pointwise(node, ("digamma{f}({0})", "trigamma{f}({0})")[n], [operand], [node.meta["val"].dtype])


@rule("as_strided_scatter")
def _as_strided_scatter(
    node: Node, base: View, source: View, size: Any, stride: Any, offset: int | None = None
) -> View:
    return _replaced(node, base, source, lambda w: w.as_strided(size, stride, offset or 0))


@rule("linalg_cholesky_ex")
def _cholesky(node: Node, a: View, *, upper: bool = False, check_errors: bool = False) -> list[View]:
    if upper:
        raise Unsupported("an upper Cholesky factor")
    factor, info = node.meta["val"]
    value = Cholesky(tuple(factor.shape), factor.dtype, [a])
    # Where it fails the factor has NaN on its diagonal; who asks after the reason gets none.
    return [View.whole(value), fill(tuple(info.shape), torch.int32, 0)]


@rule("linalg_solve_triangular")
def _solve(node: Node, a: View, b: View, *, upper: bool, left: bool = True, unitriangular: bool = False) -> View:
    out: Tensor = node.meta["val"]
    if not left:  # X A = B is A' X' = B'
        turned = Triangular(
            (*out.shape[:-2], out.shape[-1], out.shape[-2]), out.dtype, [_turn(a), _turn(b)], upper=not upper, unit=unitriangular
        )  # fmt: skip
        return _turn(View.whole(turned))
    return View.whole(Triangular(tuple(out.shape), out.dtype, [a, b], upper=upper, unit=unitriangular))


def _turn(view: View) -> View:
    return View(view.value, view.meta.transpose(-1, -2))


@rule("_linalg_check_errors")
def _nothing(node: Node, *_: Any, **__: Any) -> None:
    """Where a factorisation failed there is NaN, and the step that it reaches is not taken."""


@rule("cholesky_solve")
def _cholesky_solve(node: Node, b: View, factor: View, upper: bool = False) -> View:
    lower = _turn(factor) if upper else factor
    half = _solve(node, lower, b, upper=False)
    return _solve(node, _turn(lower), half, upper=True)
