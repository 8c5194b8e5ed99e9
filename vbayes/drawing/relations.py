"""Finds out which plates of a model are the rows of its data, and which columns index the rows of other plates, by calling the model; names don't matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, combinations
from typing import Any

import pyro
import torch
from pyro.distributions import Independent
from pyro.poutine import Trace
from torch import Tensor

from .. import rng
from ..data.columns_for import ROWS
from ..data.dataset import Batch
from ..errors import VBayesError
from ..pair.explained import FAILURES
from ..pair.pair import Pair
from ..pair.sites import kind, latents, observed, plates, recorded, sites
from ..validation import validation
from .given import Given
from .known import Axis, Tiled

MOST = 6  # maximum number of axes of equal size that are tried in all combinations


class Relations:
    """Relations between plates and columns, found by calling a pair with rows like those that it was fitted to.

    Args:
        pair: An initialised pair.
        args: Its arguments, with all rows.
        names: Names of its columns.
        rows: N.

    Attributes:
        q, p: A run of guide and model.
        values: Latent → its value there.
        sizes: Plate → its size there.
        row_plates: The plates whose rows are the rows of the data.
        fixed: Whether their size is fixed.
        long: Latents with a number for each row inside one event, as in a Gaussian process.
    """

    def __init__(self, pair: Pair, args: tuple[Any, ...], names: Sequence[str], rows: int) -> None:
        self.pair, self.args, self.names, self.rows = pair, args, tuple(names), rows
        with pair.look(), torch.no_grad(), validation(False):
            self.q, self.p = pair.run(Batch(args))
        self.values: dict[str, Tensor] = {site["name"]: site["value"] for site in latents(self.p)}
        self.sizes = _sizes(self.p)
        self.fixed = False
        self.long: list[str] = []
        self.row_plates = self._row_plates()

    def look(self, args: tuple[Any, ...], values: Mapping[str, Tensor] | None = None) -> Trace:
        """Runs the model with other arguments, repeating or cutting off latents of another size."""
        with self.pair.look(), torch.no_grad(), validation(False):
            model = Tiled(self.values if values is None else values)(self.pair.model)
            return pyro.poutine.trace(model).get_trace(*args)

    def local(self) -> list[str]:
        """The latents of single rows."""
        apart = [s["name"] for s in latents(self.p) if s["name"] in self.long and isinstance(s["fn"], Independent)]
        placed = [s for s in latents(self.p) if {f.name for f in s["cond_indep_stack"]} & self.row_plates]
        return [*(site["name"] for site in placed), *apart]

    def observes(self, column: int) -> bool:
        """Whether a column is, or determines, the data of some site."""
        before, values = _data(self.p), self.args[column]
        other = values.roll(1, 0)
        if torch.equal(other, values):  # all rows are equal
            if not values.is_floating_point():  # and a different code might not exist
                return any(_alike(value, values) for value in before.values())
            other = values + 1
        try:
            after = _data(self.look(self._with(column, other)))
        except (*FAILURES, VBayesError):
            return False
        return any(not _alike(before[name], after.get(name)) for name in before)

    def amortised(self) -> list[str]:
        """The latents of rows that the guide computes from the row, so that other rows give other draws from the same noise."""
        if not self.local():
            return []
        moved = tuple(a if n == ROWS else a.roll(1, 0) for n, a in zip(self.names, self.args, strict=True))
        try:
            with self.pair.look(), torch.no_grad(), validation(False):
                q: Any = pyro.poutine.trace(self.pair.guide).get_trace(*moved)
        except (*FAILURES, VBayesError):
            return []
        before, after = self.q.nodes, q.nodes
        return [n for n in self.local() if n in before and n in after and _differ(before[n], after[n])]

    def grown_by(self, column: int) -> set[str]:
        """The plates whose size is that of the largest code in a column, as `int(g.max()) + 1` makes it."""
        codes = self.args[column]
        if len(present := codes.unique()) < 2:
            return set()
        lower = torch.where(codes == present[-1], present[-2], codes)
        try:
            found = self.look(self._with(column, lower))
        except (*FAILURES, VBayesError):
            return set()
        return {name for name, size in _sizes(found).items() if size < self.sizes.get(name, 0)} - self.row_plates

    def numbered_by(self, column: int, groups: int) -> tuple[Axis, ...] | None:
        """The plates, and the dimensions of independent events, whose rows a column indexes: if codes and rows are permuted together, all
        densities are unchanged; if only the codes are, they change. Empty if the codes do not matter, None if there are no such plates. Groups that
        differ only in their draws can then be drawn for new codes.

        Args:
            column: A column of integers.
            groups: Number of codes.
        """
        if (new := self._other_order(column)) is None:
            return None
        changed = self._with(column, new[self.args[column]])
        axes = self._axes(groups, len(new) - 1)
        for some in chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)):
            try:
                if self._same_density(self.look(changed, self._renumbered(some, new))):
                    return some
            except (*FAILURES, VBayesError):
                continue
        return None

    def guided(self, args: tuple[Any, ...], shared: Mapping[str, Tensor]) -> Trace:
        """Runs the guide with other arguments, given some latents."""
        with self.pair.look(), torch.no_grad(), validation(False), Given(shared):
            return pyro.poutine.trace(self.pair.guide).get_trace(*args)

    def knows_by_number(self, column: int, axes: tuple[Axis, ...]) -> list[str]:
        """The latents of rows for which the guide uses a code beyond the latents of its group, such as a parameter for each group: they change if codes and the groups' latents are
        permuted together.

        Args:
            column: A column of codes.
            axes: The axes of the groups' latents, from `numbered_by`.
        """
        if (new := self._other_order(column)) is None:
            return self.local()
        local, changed = self.local(), self._with(column, new[self.args[column]])
        runs = (self.args, self.values), (changed, self._renumbered(axes, new))
        try:
            before, after = (
                self.guided(args, {n: value for n, value in values.items() if n not in local}).nodes
                for args, values in runs
            )
        except (*FAILURES, VBayesError):
            return self.local()
        return [n for n in local if n in before and n in after and _differ(before[n], after[n])]

    def _other_order(self, column: int) -> Tensor | None:
        """A permutation (old code → new) of the codes in a column; None if there is only one code."""
        codes = self.args[column]
        present = codes.unique()
        if len(present) < 2:
            return None
        order = torch.randperm(len(present), generator=rng.stream(0, column), device="cpu").to(codes.device)
        order = order if (order != torch.arange(len(order), device=order.device)).any() else order.roll(1)
        new = torch.arange(int(present[-1]) + 1, device=codes.device)
        new[present] = present[order]
        return new

    def size(self, axis: Axis) -> int:
        """The number of rows."""
        return self.sizes[axis] if isinstance(axis, str) else int(self.values[axis[0]].shape[axis[1]])

    def _axes(self, groups: int, most: int) -> list[Axis]:
        found: list[Axis] = [n for n, size in self.sizes.items() if size > most and n not in self.row_plates]
        for site in latents(self.p):
            if isinstance(site["fn"], Independent):
                dims = range(-site["fn"].event_dim, -site["fn"].event_dim + site["fn"].reinterpreted_batch_ndims)
                found += [(site["name"], dim) for dim in dims if site["value"].shape[dim] == groups]
        return found[:MOST]

    def _renumbered(self, axes: tuple[Axis, ...], new: Tensor) -> dict[str, Tensor]:
        found = dict(self.values)
        for site in latents(self.p):
            name = site["name"]
            dims = [f.dim - site["fn"].event_dim for f in plates(site) if f.name in axes]
            dims += [axis[1] for axis in axes if isinstance(axis, tuple) and axis[0] == name]
            for dim in dims:
                whole = torch.arange(found[name].shape[dim], device=new.device)
                whole[: len(new)] = new
                found[name] = found[name].index_select(found[name].dim() + dim, whole.argsort())
        return found

    def _same_density(self, other: Trace) -> bool:
        before, after = (self._densities(trace) for trace in (self.p, other))
        return before.keys() == after.keys() and all(_alike(before[name], after[name]) for name in before)

    def _densities(self, trace: Trace) -> dict[str, Tensor]:
        """Site → its log-density, for each row if it has rows, otherwise in total."""
        found = {}
        for site in sites(trace):
            each = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
            by_row = any(frame.name in self.row_plates for frame in plates(site))
            found[site["name"]] = each if by_row else each.double().sum()
        return found

    def _row_plates(self) -> set[str]:
        """The plates, including sequential ones, that get one more row if the first row of all columns is duplicated, or one less without the last row."""
        more, fewer = (tuple(torch.cat([a, a[:1]]) for a in self.args), tuple(a[:-1] for a in self.args))
        for other, rows in ((more, self.rows + 1), (fewer, self.rows - 1)):
            try:
                found = self.look(other)
            except (*FAILURES, VBayesError):
                continue
            sizes, events = _sizes(found), {s["name"]: s["fn"].event_shape for s in latents(found)}
            mine = {s["name"]: s["fn"].event_shape for s in latents(self.p)}
            self.long = [name for name, shape in mine.items() if events.get(name, shape) != shape]
            return {n for n, size in sizes.items() if size == rows and self.sizes.get(n) == self.rows}
        self.fixed = True  # the row dimension is then that of the data
        return {f.name for site in observed(self.p) for f in plates(site) if f.size == self.rows}

    def _with(self, column: int, values: Tensor) -> tuple[Any, ...]:
        return (*self.args[:column], values, *self.args[column + 1 :])


def _sizes(trace: Trace) -> dict[str, int]:
    """Plate → its number of rows in a run."""
    return {frame.name: int(frame.size) for site in recorded(trace) for frame in site["cond_indep_stack"]}


def _data(trace: Trace) -> dict[str, Tensor]:
    return {site["name"]: site["value"] for site in recorded(trace) if kind(site) == "data"}


def _differ(one: Any, other: Any) -> bool:
    value = one["value"]
    return not _alike(value, other["value"]) or not _alike(one["fn"].log_prob(value), other["fn"].log_prob(value))


def _alike(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape:
        return False
    return torch.allclose(one.double(), other.double(), rtol=1e-5, atol=1e-5, equal_nan=True)
