"""A data set: named tensors over the same rows, with where they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .. import rng
from ..arguments.choice import FLAG, TEXT, Choice
from ..arguments.instance import Instance
from ..arguments.kind import Anything, Mapped, Optional, Several
from ..arguments.takes import takes
from ..arguments.whole import Whole
from ..errors import BadData
from ..summaries.card import Card, Displayable, counted
from .column import check_beside, chosen, columns_of, described
from .columns_for import ROWS, columns_for
from .gaps import gaps_of
from .given import columns_given
from .labels import relabelled, require_alike
from .stored import Stored

Support = Literal["binary", "unit", "real"]
Binarize = Literal["threshold", "static", "dynamic"]
Missing = Literal["error", "mask"]
SUPPORT = Choice(get_args(Support))
GENERATOR = Instance(torch.Generator, "a torch.Generator", "torch.Generator().manual_seed(0)")
BINARIZE = Choice(get_args(Binarize), "way to binarise data")
MISSING = Choice(get_args(Missing), "way to treat missing values")

VALUES: dict[Support, str] = {"binary": "each 0 or 1", "unit": "in [0, 1]", "real": "real"}  # in words
MOST = 4  # columns on a card


@takes(args=Several(Anything(), 0))
@dataclass(frozen=True)
class Batch:
    """The arguments for one call of a model, and the number of rows of the whole data set.

    Attributes:
        args: The positional arguments of model and guide.
        total: N, the rows of the whole data set; the sites in the plate `"data"` are scaled by N/M, where M is the
            size of that plate. None leaves scales unchanged.
    """

    args: tuple[Any, ...]
    total: int | None = None

    def to(self, device: str | torch.device) -> Batch:
        """Returns the batch on another device."""
        return replace(self, args=tuple(a.to(device) if isinstance(a, Tensor) else a for a in self.args))


@takes(
    support=SUPPORT,
    dims=Mapped(Several(TEXT, 0)),
    labels=Mapped(Several(TEXT, 0)),
    image=Optional(Several(Whole(1), 2, 2)),
    tensors=Anything(),
)
@dataclass(frozen=True, repr=False)
class Dataset(Displayable):
    """Named tensors over the same N rows.

    A model gets columns by the names of its arguments: `def model(x)` gets the column `x`, `def model(x, rows)`
    gets `x` and the row numbers. If the names do not match, or the columns have no names (`Dataset.of((x, y))`), it
    gets the columns in order.

    Args:
        tensors: Column name → tensor of shape (N, ...). The first is the one that a model is fitted to.
        name: Name of the data set.
        dims: Column name → names of its dimensions after the first, for labelled output.
        image: (height, width) if a row of the first column is an image.
        photograph: Whether 1 is light in an image; otherwise it is dark, as for ink.
        support: Range of the first column's values: {0, 1}, [0, 1] or the real line.
        source: Where the data come from, in one line.
        licence: The licence, as stated by the source.
        sha256: Hash of the file that the data were read from, if any.
        named: Whether the columns' names are meaningful; if not, columns are passed to a model by position.
        numbers: (N,) values of the argument `rows`; the row numbers of the data set that this one was taken from, if any.
        chances: Probabilities from which a fit redraws the first column in each epoch; see `binarized`.
        seed: Seed for those draws.
        labels: Column name → the names that its codes 0, 1, ... stand for. A column of names is coded by the names given here, followed by any others; if none are given, in
            a categorical's own order, or sorted.
        unusable: For a table, whose columns are passed to a model only by name: the columns that are neither numbers nor names, and why. None if it is not a table.

    Raises:
        BadData: There are no columns or rows, or lengths are unequal.
    """

    tensors: Mapping[str, Tensor]
    name: str = "data"
    dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    image: tuple[int, int] | None = None
    photograph: bool = False
    support: Support = "real"
    source: str = ""
    licence: str = ""
    sha256: str | None = None
    named: bool = True
    numbers: Tensor | None = None
    chances: Tensor | None = None
    seed: int = field(default_factory=rng.default_seed)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unusable: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        tensors, labels = columns_of(self.name, self.tensors, self.labels)
        object.__setattr__(self, "tensors", tensors)
        object.__setattr__(self, "labels", labels)
        for what in ("numbers", "chances"):
            check_beside(what, getattr(self, what), len(self))

    @classmethod
    def of(cls, data: Any, like: Any = None, rows: int | None = None) -> Dataset:
        """Makes a data set from a `Dataset`, a tensor or array, a tuple or mapping of them, or a table from pandas, polars, Arrow or xarray.

        Real numbers that are not tensors yet (NumPy's are float64 by default) get torch's default dtype. Names become codes; see `labels`.

        Args:
            data: The data, in any of these forms.
            like: A data set, or data for one, whose codes for names are reused; codes from `len(like.labels[column])` on stand for new names. In its columns of names,
                numbers in tables and arrays are taken as names, and numbers in tensors as codes.
            rows: N, the number of rows in one pass over `data`, if it is a stream (an `IterableDataset`, or a loader of one) of unknown length.
        """
        other = None if like is None else cls.of(like)
        known = {} if other is None else other.labels
        made = data if isinstance(data, cls) and rows is None else cls(**columns_given(data, known, rows))
        require_alike(made.labels, {} if other is None else other.tensors, known)
        own = made is data and known and relabelled(made.tensors, made.labels, known, table=made.unusable is not None)
        return replace(made, **own) if own else made

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def card(self) -> Card:
        """The columns with shapes and types, and the source."""
        (name, first), *others = columns = [(k, described(v, self.labels.get(k))) for k, v in self.tensors.items()]
        rows = [(name, first if self.unusable is not None else f"{first}, {VALUES[self.support]}"), *others[: MOST - 1]]
        if (more := len(columns) - MOST) > 0:
            rows.append(("", f"and {counted(more, 'more column')}"))
        if self.source:
            rows.append(("source", self.source))
        return Card(f"Dataset: {self.name}, {counted(len(self), 'row')}", tuple(rows))

    @property
    def stored(self) -> bool:
        """Whether rows are read from disk on demand, as for files larger than memory."""
        return any(isinstance(column, Stored) for column in self.tensors.values())

    @property
    def first(self) -> Tensor:
        """The column that a model is fitted to."""
        return next(iter(self.tensors.values()))

    def gaps(self, model: Callable[..., Any] | None = None) -> tuple[Tensor, str]:
        """The numbers of the rows with NaN or infinite values, in the columns used by a model or in all, and a description.

        A model may mask such values; functions of a pair and data raise an error if they reach the log-density.
        """
        asked = self.tensors if model is None else self.asked(model)
        return gaps_of(self.name, {k: self.tensors[k] for k in asked if k in self.tensors})

    @takes(index=Anything())
    def rows(self, index: Any) -> Dataset:
        """Returns some of the rows as a new data set."""
        numbers = chosen(self._numbers, index)
        chances = None if self.chances is None else self.chances[index]
        tensors = {k: v[index] for k, v in self.tensors.items()}
        return replace(self, tensors=tensors, numbers=numbers, chances=chances)

    @takes()
    def binarized(self, how: Binarize, *, seed: int | None = None) -> Dataset:
        """Binarises the first column, which holds grey values in [0, 1].

        Args:
            how: "threshold": 1 for values of at least 0.5. "static": drawn once, with the grey value as the probability of a 1 (Salakhutdinov & Murray 2008).
                "dynamic": likewise, but redrawn by `fit` in each epoch (as in Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519), which reduces overfitting. All fits
                use the same draws.
            seed: Seed for the draws.

        Raises:
            BadInput: `how` is something else.
            BadData: There are values outside [0, 1].
        """
        BINARIZE("binarize", how)
        grey = self.first if self.first.is_floating_point() else self.first.to(torch.get_default_dtype())
        low, high = float(grey.min()), float(grey.max())
        if not (low >= 0 and high <= 1):
            raise BadData(
                f"Column {next(iter(self.tensors))!r} of {self.name!r} runs from {low:.4g} to {high:.4g}. Wanted, to binarise it: values from 0 to 1, such as "
                "grey values divided by the largest possible one."
            )
        if how == "threshold":
            return self._with((grey >= 0.5).to(grey.dtype), chances=None)
        drawn = replace(self, chances=grey, seed=rng.or_default(seed)).in_epoch(0)
        return drawn if how == "dynamic" else replace(drawn, chances=None)

    def in_epoch(self, epoch: int) -> Dataset:
        """The data as used by a fit in an epoch, redrawn if they are binarised dynamically."""
        if self.chances is None:
            return self
        # On the CPU whatever the device, so that a seed gives the same data everywhere.
        generator = rng.stream(self.seed, epoch)
        drawn = torch.bernoulli(self.chances.cpu(), generator=generator)
        return self._with(drawn.to(self.chances.device), self.chances)

    def _with(self, first: Tensor, chances: Tensor | None) -> Dataset:
        name = next(iter(self.tensors))
        return replace(self, tensors={**self.tensors, name: first}, support="binary", chances=chances)

    @property
    def _numbers(self) -> Tensor:
        return torch.arange(len(self), device=self.first.device) if self.numbers is None else self.numbers

    @takes()
    def to(self, device: str | torch.device) -> Dataset:
        """Returns the data on another device."""
        numbers = None if self.numbers is None else self.numbers.to(device)
        chances = None if self.chances is None else self.chances.to(device)
        tensors = {k: v.to(device) for k, v in self.tensors.items()}
        return replace(self, tensors=tensors, numbers=numbers, chances=chances)

    def batch(self, model: Callable[..., Any], index: Tensor | None = None) -> Batch:
        """The arguments for one call of `model`.

        Args:
            model: Whose signature says which columns it wants.
            index: (M,) row numbers; None takes all rows.

        Returns:
            The columns that the model takes, restricted to those rows, together with N.
        """
        asked = self.asked(model)
        rows = {name: self.tensors[name] for name in asked if name in self.tensors}
        if not self.stored or ROWS in asked:  # saves a number for each row of a large file
            numbers = self._numbers if index is None else chosen(self._numbers, index)  # raises for an invalid index
        if index is not None or self.stored:
            rows = {name: values[slice(None) if index is None else index] for name, values in rows.items()}
        return Batch(tuple(rows[name] if name in rows else numbers for name in asked), total=len(self))

    @takes(size=Optional(Whole(None)), shuffle=FLAG, generator=Optional(GENERATOR))
    def epoch(
        self, size: int | None = None, *, shuffle: bool = True, generator: torch.Generator | None = None
    ) -> list[Tensor | None]:
        """Yields the rows of each minibatch of one pass over the data.

        Args:
            size: M, rows in a batch; the last one may be smaller. All rows at once if None.
            shuffle: Whether to shuffle the rows.
            generator: Generator for the order, on the CPU; torch's global one if None.

        Returns:
            Row numbers, (M,) each; None stands for all rows in order.

        Raises:
            BadData: `size` below 1 or above N.
        """
        self.check_batch_size(size)
        if size is None or size == len(self):
            return [None]
        # On the CPU whatever the device, so that a seed gives the same batches everywhere.
        order = torch.arange(len(self), device="cpu")
        if shuffle:
            order = torch.randperm(len(self), generator=generator, device="cpu")
        return [index.to(self.first.device) for index in order.split(size)]

    def minibatches(
        self, model: Callable[..., Any], size: int | None = None, *, shuffle: bool = True
    ) -> Iterator[Batch]:
        """One pass over the data, as arguments of `model`; see `epoch` and `batch`."""
        for index in self.epoch(size, shuffle=shuffle):
            yield self.batch(model, index)

    def check_batch_size(self, size: int | None) -> None:
        """Raises `BadData` if batches of `size` rows can't be taken from this data set."""
        if size is not None and not 1 <= Whole(None)("batch_size", size) <= len(self):
            raise BadData(
                f"batch_size={size} does not fit data set {self.name!r} with {len(self)} rows. "
                f"Wanted: 1 to {len(self)}, or None for all of them."
            )

    def asked(self, model: Callable[..., Any]) -> list[str]:
        """The columns that a model takes, in the order of its arguments; `"rows"` for the row numbers.

        Raises:
            BadData: The model takes columns that the data don't have.
        """
        return columns_for(model, list(self.tensors), data=self.name, named=self.named, unusable=self.unusable)

    def left_out(self, model: Callable[..., Any]) -> list[str]:
        """The columns of a table that a model does not take; empty if the data are not a table."""
        if self.unusable is None:
            return []
        asked = self.asked(model)
        return [name for name in (*self.tensors, *self.unusable) if name not in asked]
