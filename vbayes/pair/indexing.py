"""Which plates of a model a column of codes picks from: looked for while the model runs, whatever plates and columns are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyro
import torch
from pyro.ops.provenance import detach_provenance, get_provenance, track_provenance
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..data.dataset import Dataset
from ..errors import BadData
from ..validation import validation
from .pair import Pair
from .sites import kind, plates

Beside = tuple[tuple[int, int], ...]
"""Numbers that stand beside a column in a key, as the 1 in `w[column, 1]`, each with its place."""

Picked = Mapping[Any, frozenset[str]]
"""What is picked from → the columns that pick from it: a plate by its name, any other dimension of a tensor by a key of its own."""


def picked(pair: Pair, args: Sequence[Any], names: Sequence[str]) -> Picked:
    """What a model picks from by its columns, as `a[county]`, `a.index_select(0, county)` or an embedding does.

    A dimension is that of a plate if latents of one plate of that size, and of no event of that size, have gone into it. What is picked in other ways, as by a matrix
    of zeros and ones, is not found.

    Args:
        pair: An initialised pair.
        args: What it is called with.
        names: Of these.
    """
    columns = {
        name: value
        for name, value in zip(names, args, strict=True)
        if isinstance(value, Tensor) and value.dim() == 1 and value.dtype in (torch.int64, torch.int32)
    }
    sites, watch = _Sites(), _Watch(columns)
    try:
        with pair.look(), torch.no_grad(), validation(False):
            q = pyro.poutine.trace(pair.guide).get_trace(*args)
            with watch, sites:
                pyro.poutine.replay(pair.model, trace=q)(*args)
    except Exception:  # whatever the model's own code makes of tensors of another kind
        return {}
    found: dict[Any, set[str]] = {}
    for base, dim, column, beside in watch.found:
        key = sites.plate_of(base, dim) or (base.data_ptr(), dim - base.dim(), beside)
        found.setdefault(key, set()).add(column)
    return {key: frozenset(columns) for key, columns in found.items()}


def require_one_coding(pair: Pair, data: Dataset) -> None:
    """Raises `BadData` where two columns of names pick from the same, and a code stands for one name in one and for another in the other.

    Args:
        pair: An initialised pair.
        data: Where the pair is.
    """
    asked = data.asked(pair.model)
    lists = {name: data.labels[name] for name in asked if name in data.labels}
    if not any(_clash(one, other) for one in lists.values() for other in lists.values()):
        return
    first = torch.arange(min(len(data), 1000), device=data.first.device) if data.stored else None
    args = data.batch(pair.model, first).args
    for key, columns in picked(pair, args, asked).items():
        one, *others = sorted(columns & lists.keys(), key=asked.index) or [""]
        for other in others:
            if _clash(lists[one], lists[other]):
                code = next(i for i, (a, b) in enumerate(zip(lists[one], lists[other], strict=False)) if a != b)
                what = f"the rows of plate {key!r}" if isinstance(key, str) else "the same numbers"
                raise BadData(
                    f"Columns {one!r} and {other!r} of {data.name!r} both index {what} in the model of pair {pair.name!r}, but their names are coded separately: {code} is "
                    f"{lists[one][code]!r} in one and {lists[other][code]!r} in the other. Wanted: one list of names for both. Fix: names = sorted({{*table[{one!r}], *table[{other!r}]}}), and "
                    f"table[column] = pd.Categorical(table[column], names) for each of them."
                )


def _clash(one: Sequence[str], other: Sequence[str]) -> bool:
    return any(a != b for a, b in zip(one, other, strict=False))


class _Sites(Messenger):
    """Lets every latent leave its name on what is made from it, and notes its plates and the sizes of its event."""

    def __init__(self) -> None:
        super().__init__()
        self._plates: dict[str, dict[str, int]] = {}
        self._events: dict[str, tuple[int, ...]] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        if kind(msg) == "latent" and isinstance(msg["value"], Tensor):
            name = msg["name"]
            self._plates[name] = {frame.name: int(frame.size) for frame in plates(msg)}
            self._events[name] = tuple(msg["fn"].event_shape)
            msg["value"] = track_provenance(msg["value"], frozenset({name}))

    def plate_of(self, base: Tensor, dim: int) -> str | None:
        """The plate along a dimension of what was made from latents; None where it is none, or may be another."""
        size, names = base.shape[dim], get_provenance(base)
        found = {plate for name in names for plate, rows in self._plates[name].items() if rows == size}
        return found.pop() if len(found) == 1 and not any(size in self._events[name] for name in names) else None


class _Watch(TorchFunctionMode):
    """Notes each tensor of which a dimension is indexed by a column, with that dimension and the column.

    Args:
        columns: Name → (N,) codes.
    """

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._columns = columns
        self.found: list[tuple[Tensor, int, str, Beside]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (indices := _INDICES.get(func)) is not None:
            for base, dim, index, beside in indices(*args, **kwargs):
                if (column := self._column(detach_provenance(index))) is not None:
                    self.found.append((base, dim, column, beside))
        return func(*args, **kwargs)

    def _column(self, index: Any) -> str | None:
        """The one that it is, or the only one of the same codes."""
        if not isinstance(index, Tensor) or index.dtype not in (torch.int64, torch.int32):
            return None
        same = [n for n, own in self._columns.items() if own is index]
        if not same:
            like = {n: own for n, own in self._columns.items() if own.numel() == index.numel()}
            same = [n for n, own in like.items() if bool((own == index.reshape(-1)).all())]
        return same[0] if len(same) == 1 else None


Indices = Iterator[tuple[Tensor, int, Any, Beside]]


def _by_key(base: Tensor, key: Any) -> Indices:
    """The dimensions that `base[key]` picks from by tensors."""
    keys, dim = key if isinstance(key, tuple) else (key,), 0
    beside = tuple((place, each) for place, each in enumerate(keys) if isinstance(each, int))
    taken = sum(each.dim() if _is_mask(each) else each is not None and each is not Ellipsis for each in keys)
    for each in keys:
        if each is Ellipsis:
            dim += base.dim() - taken
        elif each is not None:
            if isinstance(each, Tensor) and not _is_mask(each):
                yield base, dim, each, beside
            dim += each.dim() if _is_mask(each) else 1


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
