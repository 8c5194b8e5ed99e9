"""Truth for any pair with few latent dimensions: its densities at every node of a grid."""

from __future__ import annotations

import math
from typing import Any

import pyro
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.distributions import ComposeTransform, biject_to

from . import rng
from .dataset import Batch
from .drawing import weigh
from .errors import Unsuitable
from .exact.table import Table
from .pair import Pair
from .sites import Layout, is_point_mass, plates, sites
from .validation import validation

NODES = 201  # of a continuous coordinate
REACH = 9.0  # standard deviations of the guide, on either side: e^−40 of a Gaussian's mass is beyond
LONG_REACH = 25.0  # where the unconstrained density falls like an exponential, as that of a Beta or Gamma does
DRAWS = 400  # of the guide, to see where it is
LARGEST = 2_000_000  # nodes of a grid


def tabulate(pair: Pair, batch: Batch, *, nodes: int = NODES) -> Table:
    """Model and guide over a grid of latent values: exact evidence, ELBO, and expectation of any estimator's bound.

    Discrete sites take every value of their support. A continuous one takes those of a trapezoidal rule on its unconstrained
    axis, around where the guide draws. What lies outside the plates that all sites share multiplies up.

    Args:
        pair: Initialised. Inside `pair.scope()` the result is live in its parameters, elsewhere constant.
        batch: All data, not a minibatch of them.
        nodes: Of each continuous coordinate.

    Returns:
        A `Table` whose `*local` are the plates that all sites share.

    Raises:
        Unsuitable: Too many latent coordinates, a latent of the model that the guide has not, a point mass, or a minibatch.

    Examples:
        >>> with pair.scope():
        ...     table = vb.tabulate(pair, batch)
        ...     gradients = torch.autograd.grad(table.elbo().sum(), list(pair.leaves.values()))
    """
    if not pair.inside_scope:
        with pair.scope(), torch.no_grad():
            return tabulate(pair, batch, nodes=nodes)
    if batch.total is not None and batch.total != _rows(batch):
        raise Unsuitable(
            "A grid can't stand for a minibatch: scales inside a sum of exponentials change it. Use all rows."
        )
    with torch.no_grad(), rng.seeded(0), validation(False):
        traces: list[Any] = [pair.run(batch) for _ in range(DRAWS)]
    q, p = traces[0]
    _check(q, p)
    layout = Layout(q, p)
    axes = [
        axis
        for site in sites(q)
        for axis in _axes(site, layout, torch.stack([t.nodes[site["name"]]["value"] for t, _ in traces]), nodes)
    ]
    size = math.prod(len(axis.values) for axis in axes)
    if size > LARGEST:
        raise Unsuitable(
            f"Its grid would have {size:.1g} nodes, from {len(axes)} latent coordinates. Wanted: at most {LARGEST:,}. Use fewer nodes=, "
            "or an estimator with many particles as an oracle."
        )
    index = torch.cartesian_prod(*[torch.arange(len(axis.values)) for axis in axes]).view(size, len(axes))
    log_measure = sum(axis.log_measure[index[:, i]] for i, axis in enumerate(axes))
    values = {
        site["name"]: _assembled(
            site, layout, [(a.values[index[:, i]]) for i, a in enumerate(axes) if a.name == site["name"]]
        )
        for site in sites(q)
    }

    def at(given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return weigh(pair.model, pair.guide, batch.args, {}, q, given, layout)

    log_p, log_q = torch.vmap(at)(values)
    return Table(log_p, log_q, torch.as_tensor(log_measure, dtype=log_p.dtype))


class _Axis:
    """The nodes of one latent coordinate.

    Attributes:
        name: Of its site.
        values: (G,) for a coordinate, (G, *event) for a whole site of one-hot or other vectors.
        log_measure: (G,).
    """

    def __init__(self, name: str, values: Tensor, log_measure: Tensor) -> None:
        self.name, self.values, self.log_measure = name, values, log_measure


def _axes(site: Any, layout: Layout, draws: Tensor, nodes: int) -> list[_Axis]:
    """One for each coordinate that a datum has of a site."""
    fn, own = site["fn"], _own_shape(site, layout)
    count = math.prod(own)
    inner = _scalar(fn)
    if inner.has_enumerate_support:
        support = inner.enumerate_support(expand=False)
        support = support.reshape(len(support), *inner.event_shape)
        return [_Axis(site["name"], support, torch.zeros(len(support))) for _ in range(count)]
    transform = biject_to(_scalar_support(fn.support))
    free = transform.inv(draws)
    if free.shape != draws.shape:
        raise Unsuitable(
            f"Site {site['name']!r} lives on {fn.support}, which has no grid here. Wanted: real, positive or bounded coordinates."
        )
    reach = REACH if isinstance(transform, ComposeTransform) and not transform.parts else LONG_REACH
    low = (free.mean(0) - reach * free.std(0)).amin()
    high = (free.mean(0) + reach * free.std(0)).amax()
    axis = torch.linspace(float(low), float(high), nodes, dtype=draws.dtype)
    values = transform(axis)
    # Beyond, a value can't be told from the end of its support.
    inside = (transform.inv(values) - axis).abs() < 0.1
    axis, values = axis[inside], values[inside]
    log_measure = transform.log_abs_det_jacobian(axis, values) + (axis[1] - axis[0]).log()
    return [_Axis(site["name"], values, log_measure) for _ in range(count)]


def _scalar(fn: Any) -> Any:
    """The distribution of one coordinate."""
    while type(fn).__name__ in ("Independent", "MaskedDistribution", "ExpandedDistribution"):
        fn = fn.base_dist
    return fn


def _scalar_support(support: Any) -> Any:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _own_shape(site: Any, layout: Layout) -> tuple[int, ...]:
    """Of what is enumerated of a site's value apart from the local plates: its other plates and, but for vectors, its event."""
    fn = site["fn"]
    batch = [
        n
        for d, n in zip(range(-len(fn.batch_shape), 0), fn.batch_shape, strict=True)
        if d not in {f.dim for f in layout.local}
    ]
    whole = len(_scalar(fn).event_shape)  # a one-hot vector is one coordinate
    event = fn.event_shape[: len(fn.event_shape) - whole]
    return (*batch, *event)


def _assembled(site: Any, layout: Layout, coordinates: list[Tensor]) -> Tensor:
    """(G, *shape of the site's value), the same at every place of the local plates."""
    fn = site["fn"]
    shape, rank = tuple(site["value"].shape), len(fn.batch_shape)
    local = {f.dim for f in layout.local}
    flat = torch.stack(coordinates, 1)  # (G, own, *vector)
    inner = [1 if d in local else n for d, n in zip(range(-rank, 0), shape[:rank], strict=True)]
    return flat.reshape(len(flat), *inner, *shape[rank:]).expand(len(flat), *shape)


def _check(q: pyro.poutine.Trace, p: pyro.poutine.Trace) -> None:
    guided = {site["name"] for site in sites(q)}
    if alone := [s["name"] for s in sites(p) if not s["is_observed"] and s["name"] not in guided]:
        raise Unsuitable(
            f"The guide has no site {', '.join(map(repr, alone))} of the model, which would have to be summed out."
        )
    if points := [s["name"] for s in sites(q) if is_point_mass(s["fn"])]:
        raise Unsuitable(f"The guide puts a point mass at {', '.join(map(repr, points))}: it has no density on a grid.")
    if any(frame.full_size not in (None, frame.size) for site in sites(q) for frame in plates(site)):
        raise Unsuitable("The guide draws a subsample of its data. Use all rows.")


def _rows(batch: Batch) -> int | None:
    return next((len(a) for a in batch.args if isinstance(a, Tensor) and a.dim()), None)
