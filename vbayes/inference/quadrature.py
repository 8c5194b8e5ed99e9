"""Nodes: values of a guide's latents, chosen such that sums over them are expectations.

A finite discrete latent takes each of its values. A real one takes equally spaced values, after a transform to the
real line: for a smooth density that decays at both ends, the error of the trapezoidal rule falls exponentially with the inverse spacing
(Trefethen & Weideman 2014, The exponentially convergent trapezoidal rule, doi:10.1137/130932132).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro.distributions import Independent, MaskedDistribution
from torch import Tensor
from torch.distributions import MixtureSameFamily, biject_to

from ..errors import Unsuitable
from ..pair.sites import Layout


@dataclass(frozen=True)
class Axis:
    """One coordinate of one latent, for all data together.

    Attributes:
        site: The site of the latent.
        points: (n,), on the CPU: indices of the values of a discrete latent; or distances from the mean in standard deviations, on the
            real line.
        spacing: Spacing of the points of a continuous latent; None for a discrete one.
    """

    site: str
    points: Tensor
    spacing: float | None

    @classmethod
    def row(cls, site: str, low: float, high: float, spacing: float) -> Axis:
        """Multiples of `spacing` from `low` to `high`."""
        first, last = math.floor(low / spacing), math.ceil(high / spacing)
        return cls(site, spacing * torch.arange(first, last + 1, dtype=torch.float64, device="cpu"), spacing)

    def longer(self, below: float, above: float) -> Axis:
        """The axis with its ends moved outwards by some standard deviations."""
        assert self.spacing
        return Axis.row(self.site, float(self.points[0]) - below, float(self.points[-1]) + above, self.spacing)

    def finer(self) -> Axis:
        """The axis with half the spacing."""
        assert self.spacing
        return Axis.row(self.site, float(self.points[0]), float(self.points[-1]), self.spacing / 2)


class SiteNodes:
    """The values that one latent takes, from the points on its axes.

    Args:
        site: Of the guide's trace.
        draws: (S, *shape) of the site's values.
        layout: Its local plates take the same point for all data; each other coordinate has an axis of its own.

    Raises:
        Unsuitable: The latent is discrete and can't be enumerated, or its support depends on parameters.
    """

    def __init__(self, site: Any, draws: Tensor, layout: Layout) -> None:
        fn = site["fn"]
        self.name: str = site["name"]
        while isinstance(fn, (Independent, MaskedDistribution)):
            fn = fn.base_dist
        batch = len(site["fn"].batch_shape)
        # A batch dimension has the same place from the left in values, transformed values and Jacobians.
        self._local = [batch + f.dim for f in layout.local]
        self.discrete = bool(fn.support.is_discrete)
        if self.discrete:
            try:
                values = fn.enumerate_support(expand=False)
            except NotImplementedError:
                raise Unsuitable(
                    f"Site {self.name!r} is {type(fn).__name__}, whose values can't be enumerated. Wanted: discrete latents of finite "
                    "support, such as Bernoulli or Categorical, and continuous ones."
                ) from None
            self._values = values.expand(len(values), *fn.batch_shape, *fn.event_shape)
            self._shape = tuple(fn.batch_shape)
            points = torch.arange(len(values), device="cpu")
        else:
            support = site["fn"].support
            if isinstance(fn, MixtureSameFamily):  # its components', whose parameters have one dimension more
                support = support.base_constraint
                if any(isinstance(end, Tensor) and end.dim() > 0 for end in vars(support).values()):
                    raise Unsuitable(
                        f"Site {self.name!r} is a mixture whose components have different supports. Wanted: components with one common support."
                    )
            self.to_site = biject_to(support)
            free = self.to_site.inv(draws)
            if free.requires_grad:
                raise Unsuitable(
                    f"The support of site {self.name!r} depends on parameters, and nodes that move with them would lose a part of "
                    "the gradient. Wanted: a fixed support; move the site inside by location and scale."
                )
            self._shape = tuple(free.shape[1:])
            arranged = self.arrange(free)
            self._mean, self._sd = arranged.mean(0), arranged.std(0)
            points = None
        self.coordinates = math.prod(n for d, n in enumerate(self._shape) if d not in self._local)
        start = Axis(self.name, points, None) if points is not None else Axis.row(self.name, -8.0, 8.0, 0.5)
        self.axes = (start,) * self.coordinates

    def place(self, points: Tensor, spacing: float) -> tuple[Tensor, Tensor]:
        """The site's value at each node, and the volume that the node represents.

        Args:
            points: (G, E) a point on each of the site's axes.
            spacing: The product of their spacings.

        Returns:
            (G, *shape), and (G, *local) the log-measure.
        """
        sizes = [self._shape[d] for d in self._local]
        points = points.reshape(len(points), *[1] * len(sizes), -1)
        if self.discrete:
            index = self._restore(points.expand(len(points), *sizes, -1)).long().to(self._values.device)
            extra = self._values.dim() - 1 - len(self._shape)  # a value may be a vector, as a one-hot's is
            index = index.reshape(*index.shape, *[1] * extra).expand(-1, *self._values.shape[1:])
            return self._values.gather(0, index), self._values.new_zeros(len(points), *sizes)
        free = self._restore(self._mean + self._sd * points.to(self._mean))
        value = self.to_site(free)
        jacobian = self.arrange(self.to_site.log_abs_det_jacobian(free, value)).sum(-1)
        return value, jacobian + self._sd.log().sum(-1) + math.log(spacing)

    def free(self, value: Tensor) -> Tensor:
        """Values of a continuous latent on the real line."""
        return self.to_site.inv(value)

    def arrange(self, value: Tensor) -> Tensor:
        """(G, *shape) → (G, *local, own): the local dimensions first, everything else flattened behind."""
        first = [1 + d for d in self._local]
        value = value.permute([0, *first, *(d for d in range(1, value.dim()) if d not in first)])
        return value.reshape(*value.shape[: 1 + len(first)], -1)

    def _restore(self, value: Tensor) -> Tensor:
        """(G, *local, own) → (G, *shape)."""
        order = [*self._local, *(d for d in range(len(self._shape)) if d not in self._local)]
        value = value.reshape(len(value), *(self._shape[d] for d in order))
        return value.permute([0, *(1 + order.index(d) for d in range(len(order)))])


@dataclass(frozen=True)
class Grid:
    """The product of all axes.

    Attributes:
        axes: The fastest last.
    """

    axes: tuple[Axis, ...]

    @property
    def sizes(self) -> list[int]:
        return [len(axis.points) for axis in self.axes]

    def __len__(self) -> int:
        return math.prod(self.sizes)

    def replaced(self, axes: Sequence[Axis]) -> Grid:
        return replace(self, axes=tuple(axes))

    def place(self, sites: Sequence[SiteNodes]) -> tuple[dict[str, Tensor], Tensor | float]:
        """Site → its values at all nodes, (G, *shape); and the log-measure of each node, (G, *local)."""
        rows = [axis.points.double() for axis in self.axes]
        # torch.cartesian_prod drops the dimension of factors for a single row, and does not accept none.
        points = torch.cartesian_prod(*rows) if rows else torch.empty(1, 0, device="cpu")
        points = points.reshape(len(self), len(rows))
        values: dict[str, Tensor] = {}
        measure: Tensor | float = 0.0
        start = 0
        for site in sites:
            mine = slice(start, start := start + site.coordinates)
            spacing = math.prod(axis.spacing or 1.0 for axis in self.axes[mine])
            values[site.name], part = site.place(points[:, mine], spacing)
            measure = measure + part
        return values, measure
