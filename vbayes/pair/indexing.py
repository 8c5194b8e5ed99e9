"""Finds which plates of a model are indexed by a column of codes, by watching the model run; the names of plates and columns don't matter."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from ..data.dataset import Dataset
from ..errors import BadData, warn
from ..validation import validation
from .pair import Pair
from .sites import kind, plates

Beside = tuple[tuple[int, int], ...]
"""Constant indices next to a column, each with its dimension, such as the 1 in `w[column, 1]`."""

Part = tuple[int, Beside]
"""The part of a tensor that a column indexes: the tensor's address, and the constant indices next to the column."""

Picked = Mapping[Any, Mapping[str, frozenset[Part]]]
"""What is indexed → the columns that index it, and which parts of it: a plate has its name as the key, any other dimension of a tensor a key of its own."""


def picked(pair: Pair, args: Sequence[Any], names: Sequence[str]) -> Picked:
    """Finds what a model indexes by its columns, as in `a[county]`, `a.index_select(0, county)` or an embedding.

    A dimension belongs to a plate if the tensor was computed from latents with exactly one plate of that size, and no event dimension of that size. Selection in other ways, as by
    a matrix of zeros and ones, is not found. If the model fails while it is watched, nothing is found, and a warning says so.

    Args:
        pair: An initialised pair.
        args: The arguments that it is called with.
        names: Their names.
    """
    columns = {
        name: value
        for name, value in zip(names, args, strict=True)
        if isinstance(value, Tensor) and value.dim() == 1 and value.dtype in (torch.int64, torch.int32)
    }
    watch = _Watch(columns)
    sites = _Sites(watch)
    try:
        with pair.look(), torch.no_grad(), validation(False):
            q = pyro.poutine.trace(pair.guide).get_trace(*args)
            with watch, sites:
                pyro.poutine.replay(pair.model, trace=q)(*args)
    except Exception as error:  # such as from compiled code
        warn(
            f"Can't determine which plates are indexed by columns of names, as the model of pair {pair.name!r} does not run while it is watched ({type(error).__name__}: {error}). "
            "Plates without a column of the same name are labelled by numbers. Fix: vb.to_arviz(fit, coords={plate: names})."
        )
        return {}
    found: dict[Any, dict[str, set[Part]]] = {}
    for base, dim, column, beside in watch.found:
        part = base.data_ptr(), beside
        key = sites.plate_of(base, dim) or (dim - base.dim(), *part)
        found.setdefault(key, {}).setdefault(column, set()).add(part)
    return {key: {name: frozenset(parts) for name, parts in own.items()} for key, own in found.items()}


def names_in(data: Dataset, column: str) -> dict[int, str]:
    """Code → name, for the codes that occur in a column; for all possible codes if rows are read from disk."""
    labels, codes = data.labels[column], data.tensors[column]
    if not isinstance(codes, Tensor) or codes.is_floating_point():
        return dict(enumerate(labels))
    return {code: labels[code] for code in codes.unique().tolist() if 0 <= code < len(labels)}


def require_one_coding(pair: Pair, data: Dataset, trained: Dataset | None = None) -> None:
    """Runs `require_one_name` if the lists of names allow a code to have two names.

    Args:
        pair: An initialised pair.
        data: Data on the pair's device.
        trained: The data of a fit, if `data` use its codes.
    """
    asked = data.asked(pair.model)
    lists = [data.labels[name] for name in asked if name in data.labels]
    if not any(_clash(one, other) for one, other in itertools.combinations(lists, 2)):
        return
    first = torch.arange(min(len(data), 1000), device=data.first.device) if data.stored else None
    args = data.batch(pair.model, first).args
    require_one_name(pair, picked(pair, args, asked), asked, data if trained is None else trained, data)


def require_one_name(pair: Pair, by: Picked, asked: Sequence[str], *data: Dataset) -> None:
    """Raises `BadData` if two columns of names index the same thing, and a code has different names in the two columns.

    Codes that occur in only one of the columns are allowed, as each then indexes rows of its own. So are columns that never select the same number, as in `w[a, 0] + w[b, 1]`; but the
    rows of a plate then have two names, and a warning says so.

    Args:
        pair: Initialised.
        by: What it indexes by which columns, from `picked`.
        asked: The columns, in the model's order.
        data: Data sets that share one coding.
    """
    for key, columns in by.items():
        names = {
            name: {c: own for each in data if name in each.labels for c, own in names_in(each, name).items()}
            for name in asked
            if name in columns and len(columns) > 1
        }
        for one, other in itertools.combinations(names, 2):
            both = sorted(names[one].keys() & names[other].keys())
            code = next((code for code in both if names[one][code] != names[other][code]), None)
            if code is None:
                continue
            what = f"the rows of plate {key!r}" if isinstance(key, str) else "the same numbers"
            said = (
                f"Columns {one!r} and {other!r} of {data[-1].name!r} both index {what} in the model of pair {pair.name!r}, but their names are coded separately: {code} is "
                f"{names[one][code]!r} in one and {names[other][code]!r} in the other."
            )
            mend = f"names = sorted({{*table[{one!r}], *table[{other!r}]}}), and table[column] = pd.Categorical(table[column], names) for each of them"
            if any(not _disjoint(*parts) for parts in itertools.product(columns[one], columns[other])):
                raise BadData(
                    f"{said} Wanted: one list of names for both. Fix: {mend}; or a plate for each, if they are names of different things."
                )
            warn(
                f"{said} They index different parts of these rows, which therefore get no labels. If they name the same things: {mend}."
            )


def _clash(one: Sequence[str], other: Sequence[str]) -> bool:
    return any(a != b for a, b in zip(one, other, strict=False))


def _disjoint(one: Part, other: Part) -> bool:
    """Whether two parts of the same tensor have no number in common."""
    beside = dict(one[1])
    return one[0] == other[0] and any(beside.get(dim, number) != number for dim, number in other[1])


class _Sites(Messenger):
    """Has every latent tracked, and records its plates and event shape."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch
        self._plates: dict[str, dict[str, int]] = {}
        self._events: dict[str, tuple[int, ...]] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        if kind(msg) == "latent" and isinstance(msg["value"], Tensor):
            name = msg["name"]
            self._plates[name] = {frame.name: int(frame.size) for frame in plates(msg)}
            self._events[name] = tuple(msg["fn"].event_shape)
            self._watch.follow(msg["value"], name)

    def plate_of(self, base: Tensor, dim: int) -> str | None:
        """The plate along a dimension of a tensor computed from latents; None if there is none, or it is ambiguous."""
        size, names = base.shape[dim], self._watch.latents_in(base)
        found = {plate for name in names for plate, rows in self._plates[name].items() if rows == size}
        return found.pop() if len(found) == 1 and not any(size in self._events[name] for name in names) else None


class _Watch(TorchFunctionMode):
    """Records each tensor with a dimension that is indexed by a column, with that dimension and the column; and which latents each tensor was computed from.

    The class of the model's tensors is not changed: Pyro's provenance tensors are not accepted by every operation.

    Args:
        columns: Name → (N,) codes.
    """

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._columns = columns
        self._latents: Any = WeakTensorKeyDictionary()
        self.found: list[tuple[Tensor, int, str, Beside]] = []

    def follow(self, value: Tensor, name: str) -> None:
        """Records which latent this is the value of."""
        self._latents[value] = self.latents_in(value) | {name}

    def latents_in(self, value: Tensor) -> frozenset[str]:
        """The latents that a tensor was computed from."""
        return self._latents.get(value, frozenset())  # type: ignore[no-any-return]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (indices := _INDICES.get(func)) is not None:
            for base, dim, index, beside in indices(*args, **kwargs):
                if (column := self._column(index)) is not None:
                    self.found.append((base, dim, column, beside))
        out = func(*args, **kwargs)
        if names := frozenset[str]().union(*map(self.latents_in, _tensors((args, kwargs)))):
            for made in _tensors(args[:1] if out is None else out):  # `x[0] = a` returns nothing
                self._latents[made] = names
        return out

    def _column(self, index: Any) -> str | None:
        """The column that an index is, or else the only one with the same codes."""
        if not isinstance(index, Tensor) or index.dtype not in (torch.int64, torch.int32):
            return None
        same = [n for n, own in self._columns.items() if own is index]
        if not same:
            like = {n: own for n, own in self._columns.items() if own.numel() == index.numel()}
            same = [n for n, own in like.items() if bool((own == index.reshape(-1)).all())]
        return same[0] if len(same) == 1 else None


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


Indices = Iterator[tuple[Tensor, int, Any, Beside]]


def _by_key(base: Tensor, key: Any) -> Indices:
    """The dimensions that are indexed by tensors in `base[key]`."""
    keys, dim = key if isinstance(key, tuple) else (key,), 0
    beside, found = [], []
    taken = sum(each.dim() if _is_mask(each) else each is not None and each is not Ellipsis for each in keys)
    for each in keys:
        if each is Ellipsis:
            dim += base.dim() - taken
        elif each is not None:
            if isinstance(each, int):
                beside.append((dim, each % base.shape[dim]))
            elif isinstance(each, Tensor) and not _is_mask(each):
                found.append((dim, each))
            dim += each.dim() if _is_mask(each) else 1
    for dim, column in found:
        yield base, dim, column, tuple(beside)


def _is_mask(key: Any) -> bool:
    return isinstance(key, Tensor) and key.dtype == torch.bool


def _along(input: Tensor, dim: int, index: Any, **other: Any) -> Indices:
    yield input, dim % max(1, input.dim()), index, ()


def _embedded(input: Any, weight: Tensor, *args: Any, **other: Any) -> Indices:
    yield weight, 0, input, ()


_INDICES: dict[Any, Callable[..., Indices]] = {
    Tensor.__getitem__: _by_key,
    Tensor.index_select: _along,
    torch.index_select: _along,
    Tensor.gather: _along,
    torch.gather: _along,
    torch.nn.functional.embedding: _embedded,
}
