"""Exact results for any pair with few latents, from a grid of all their values instead of draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro.distributions import ImproperUniform
from torch import Tensor

from .. import rng
from ..arguments.takes import takes
from ..data.dataset import Batch, Dataset
from ..drawing.densities import densities
from ..errors import BadInput, Unsuitable
from ..exact.table import Table
from ..guides.log_density import is_discrete
from ..guides.whitened import in_the_middle
from ..pair.explained import explained
from ..pair.generation import drawn_from
from ..pair.pair import Pair
from ..pair.paired import Model
from ..pair.problem import Problem, pair_and_data
from ..pair.sites import Layout, base, is_point_mass, latents, summed_out
from ..pair.subsample import subsample
from ..pair.support import uncovered
from ..validation import validation, vmap
from .quadrature import Axis, Grid, SiteNodes

DRAWS = 64  # from the guide, to place nodes by: locations and scales need be right to a factor of two only
DEAD = -40.0  # nats below the highest node, e^−40 = 4e−18, at which a density has died out
CLOSE = 1e-6  # between a rule and that with twice the spacing: halving it squares the error
TOGETHER = 4  # axes, at most, that waves are looked for across
ROUNDS = 40  # of longer or finer rows


@takes()
def tabulate(pair: Model, data: Any = None, *, nodes: int = 500_000) -> Table:
    """Tabulates log p and log q at all values of the latents, whose sums give the exact evidence, ELBO, gradients and KL.

    Discrete latents are enumerated; continuous ones get equally spaced nodes, which are extended until guide and
    posterior are both negligible at the ends, and refined until the result no longer changes. Sites in plates that all sites
    share use the same nodes for all data at once; everything else (event dimensions, other plates, further sites)
    multiplies the number of nodes.

    Args:
        pair: Model and guide; a fit brings its data. The table is differentiable in its parameters if this is called inside `pair.scope()`, otherwise constant.
            A model alone whose latents all belong to single rows, or are all discrete, gets its prior as guide; latents that the model sums out have no nodes.
        data: All of the data, as for `fit`, or a `vb.Batch` with the arguments of model and guide.
        nodes: Maximum number of nodes.

    Returns:
        A table on the CPU. In double precision, evidence, ELBO, KL and their gradients are accurate to ten digits, bounds of several particles (less smooth
        functions) to eight; in single precision, all to five.

    Raises:
        Unsuitable: More nodes would be needed; a latent can't be enumerated, or is in the model alone.
        BadInput: There are no data, the batch is only a part of them, or a density does not decay.
        BadPair: Pair and data do not fit together.

    Examples:
        >>> vb.tabulate(pair, x).log_evidence()
        >>> with pair.scope():
        ...     elbo = vb.tabulate(pair, x).elbo().sum()
        ...     gradients = torch.autograd.grad(elbo, list(pair.leaves.values()))
    """
    pair, data = pair_and_data(pair, data)
    if pair.word is not None and not pair.parameters:
        pair = _guided(pair, data)
    batch = data if isinstance(data, Batch) else Problem.of(pair, data).whole
    pair.initialise(batch)
    batch = pair.beside(batch)
    with pair.scope(), rng.seeded(0), validation(False):
        table = _Tabulation(pair, batch, nodes).table()
    gap = table.gap
    numbers = {name: getattr(table, name).cpu() for name in ("log_p", "log_q", "log_measure")}
    table = replace(table, **numbers, gap=gap and (lambda: gap().cpu()))
    leaves = pair.leaves
    if all(leaves[name].data_ptr() == value.data_ptr() for name, value in pair.parameters.items()):
        return table
    # The leaves hold other numbers again, at which a gradient would be taken without a word.
    return replace(
        table,
        log_p=table.log_p.detach(),
        log_q=table.log_q.detach(),
        log_measure=table.log_measure.detach(),
        gap=gap and (lambda: gap().detach().cpu()),
    )


def _guided(pair: Pair, data: Any) -> Pair:
    """A pair whose guide comes by a word; or by the model's prior, on which neither evidence nor posterior depends, where a word has no guide, or one of all rows together."""
    batch = pair.beside(data if isinstance(data, Batch) else Dataset.of(data).batch(pair.model))
    with explained(pair, batch), pair.copy().look(), validation(False):
        run = in_the_middle(pair.model, batch.args, {})
    found = latents(run)
    of_rows = bool(Layout(run, run).local) and not any(isinstance(base(s["fn"]), ImproperUniform) for s in found)
    if not found or not (of_rows or all(map(is_discrete, found))):
        return pair
    return Pair(pair.model, drawn_from(pair.model), name=pair.name)


class _Tabulation:
    def __init__(self, pair: Pair, batch: Batch, nodes: int) -> None:
        self.pair, self.batch, self.nodes = pair, batch, nodes
        q, p = pair.run(batch)  # live, to see what depends on parameters
        self._check(q, p)
        self.uncovered = uncovered(q, p)
        layout = Layout(q, p)
        latent: list[Any] = [s for s in latents(q) if not is_point_mass(s["fn"])]
        own = ", ".join(s["name"] for s in latents(q) if s["name"] in p)
        self.words = {
            s["name"]: s["name"] if s["name"] in p else own for s in latent
        }  # an autoguide has one site for all
        placed = any(not s["fn"].support.is_discrete for s in latent)  # others have their values without draws
        with torch.no_grad():
            traces: list[Any] = [q, *(pair.run(batch)[0] for _ in range(DRAWS * placed))]
        self.sites = [
            SiteNodes(s, torch.stack([t.nodes[s["name"]]["value"].detach() for t in traces]), layout) for s in latent
        ]

    def _check(self, q: Any, p: Any) -> None:
        name = self.pair.name
        summed = summed_out(q, p)
        alone = [s["name"] for s in latents(p) if s["name"] not in q.nodes and s["name"] not in summed]
        if alone:
            raise Unsuitable(
                f"Site{'s' * (len(alone) > 1)} {', '.join(map(repr, alone))} of pair {name!r} {'are' if len(alone) > 1 else 'is'} in the "
                "model alone, so there is no q to take an expectation under. Wanted: a site of that name in the guide."
            )
        if Layout(q, p).scale != 1.0 or subsample(q, p, self.batch.total):
            raise BadInput(
                f"Pair {name!r} was given only a part of its data, rescaled to the whole. Wanted: all of them at once, "
                "such as data.batch(pair.model)."
            )

    def table(self) -> Table:
        grid = Grid(tuple(axis for site in self.sites for axis in site.axes))
        for _ in range(ROUNDS):
            self._check_size(grid)
            with torch.no_grad():
                better = _better(grid, self._at(grid))
            if better is None:
                table = self._at(grid)
                self._check_mass(table)
                return table
            grid = grid.replaced(better)
        raise BadInput(
            f"The densities of pair {self.pair.name!r} do not decay along its latents, even far from the guide's draws. Wanted: a "
            "model that can be normalised and a guide that is not degenerate."
        )

    def _check_size(self, grid: Grid) -> None:
        if len(grid) > self.nodes:
            shape = " × ".join(f"{len(axis.points)} ({self.words[axis.site]})" for axis in grid.axes)
            raise Unsuitable(
                f"Pair {self.pair.name!r} would need {len(grid)} nodes or more: {shape[:300]}. Wanted: at most nodes={self.nodes}. Every "
                "latent outside the plates that all sites share multiplies them: use fewer latents or less data."
            )

    def _check_mass(self, table: Table) -> None:
        off = float((table.mass.detach() - 1).abs().max())
        if not off < 100 * _tolerance(table.log_q):
            raise BadInput(
                f"The nodes of pair {self.pair.name!r} miss {off:.1e} of q. Wanted: a guide that is normalised "
                "over the latents' own supports, which depend neither on parameters nor on each other."
            )

    def _at(self, grid: Grid) -> Table:
        values, measure = grid.place(self.sites)
        log_p, log_q, density = self._weighed(values, len(grid))
        for name, found in (("p", log_p), ("q", log_q)):
            if found.isnan().any() or found.eq(torch.inf).any():
                raise BadInput(
                    f"log {name} of pair {self.pair.name!r} is NaN or infinite at some value of its latents. Wanted: a density that is finite on its support."
                )
        # Where masks and scales make log q another thing than the density that the guide draws by, the measure says so:
        # then sums with m q still are expectations over draws.
        other = torch.where(density == log_q, 0.0, density - log_q)
        smooth = not any(site.discrete for site in self.sites)
        numbers = {site.name: site.arrange(values[site.name]).detach().cpu() for site in self.sites}
        gap = (lambda: self._gap(values)) if smooth else None
        return Table(log_p, log_q, other + measure, self.uncovered, numbers, gap)

    def _gap(self, values: Mapping[str, Tensor]) -> Tensor:
        """(G, *local) ‖∇ log p − ∇ log q‖² at some values, on the real line; there both have the same Jacobian, so that it is the slope of log w."""
        with self.pair.scope(), rng.seeded(0), validation(False), torch.enable_grad():  # type: ignore[no-untyped-call]
            free = [site.free(values[site.name]).detach().requires_grad_() for site in self.sites]
            moved = {site.name: site.to_site(numbers) for site, numbers in zip(self.sites, free, strict=True)}
            log_p, log_q, _ = self._weighed(moved, len(free[0]))
            slopes = torch.autograd.grad((log_p - log_q).sum(), free, create_graph=True, materialize_grads=True)
        return sum(site.arrange(s).square().sum(-1) for site, s in zip(self.sites, slopes, strict=True))  # type: ignore[return-value]

    def _weighed(self, values: Mapping[str, Tensor], count: int) -> tuple[Tensor, ...]:
        model, guide = self.pair.scaled(self.batch.total)

        def one(values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            return densities(model, guide, self.batch.args, values)

        if not values:
            return tuple(part[None] for part in one({}))
        try:
            return vmap(one)(values)
        except Exception:  # a model that looks at its values, or an operation that vmap does not know: one by one then
            found = [one({name: value[g] for name, value in values.items()}) for g in range(count)]
            return tuple(torch.stack(parts) for parts in zip(*found, strict=True))


def _tolerance(like: Tensor) -> float:
    return max(CLOSE, 100 * torch.finfo(like.dtype).eps)


def _better(grid: Grid, table: Table) -> Sequence[Axis] | None:
    """Longer axes where a density is still alive at an end, or else finer ones where that matters; None if all is well."""
    densities = torch.stack([table.log_p, table.log_q]) + table.log_measure
    height = densities - densities.amax(1, keepdim=True)
    height = height.flatten(2).amax((0, 2)) if height.dim() > 2 else height.amax(0)
    height = height.reshape(grid.sizes)
    axes, changed = list(grid.axes), False
    for a, axis in enumerate(grid.axes):
        if axis.spacing is None:
            continue
        below, above = (float(height.select(a, end).max()) > DEAD for end in (0, -1))
        if below or above:
            half = float(axis.points[-1] - axis.points[0]) / 2
            axes[a], changed = axis.longer(half * below, half * above), True
    if changed:
        return axes
    shaped = densities.reshape(2, *grid.sizes, *densities.shape[2:])
    whole = densities.logsumexp(1)
    laid = [a for a, axis in enumerate(grid.axes) if axis.spacing is not None]
    for together in range(1, min(len(laid), TOGETHER) + 1):
        finer = set()
        for some in itertools.combinations(laid, together):
            rough = _every_second(shaped, grid.sizes, some) + math.log(2)
            if float((rough - whole).abs().max()) > _tolerance(densities):
                finer.add(min(some, key=lambda a: grid.sizes[a]))  # one of them is enough
        if finer:
            return [axis.finer() if a in finer else axis for a, axis in enumerate(axes)]
    return None


def _every_second(shaped: Tensor, sizes: Sequence[int], axes: tuple[int, ...]) -> Tensor:
    """(2, *local) log sums over the nodes whose numbers along some axes add up to an even one: of one axis every second, of two a checkerboard.

    What a rule with equal spacing is blind to are waves that fit its spacing, also such as run across its axes, over the ridge of two latents that hang together.
    Each of them has a wave of half its frequency that half of the nodes, chosen so, are blind to.
    """
    number = torch.zeros(tuple(sizes), dtype=torch.long, device=shaped.device)
    for a in axes:
        along = torch.arange(sizes[a], device=shaped.device)
        number = number + along.reshape([-1 if i == a else 1 for i in range(len(sizes))])
    return shaped.flatten(1, len(sizes))[:, (number % 2 == 0).flatten()].logsumexp(1)
