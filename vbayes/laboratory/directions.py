"""The components of single draws of a gradient along the true gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .moments import Measured

KEPT = 400  # number of draws whose component along the true gradient is kept, for histograms


class Directions:
    """Accumulates over all draws, for each group, the ratio of the components parallel and orthogonal to the true gradient.

    Args:
        truth: (P,) the true gradient.
        groups: Name → indices of its parameters.
        blocks: B, the number of blocks of draws.
    """

    def __init__(self, truth: Tensor, groups: Mapping[str, Tensor], blocks: int) -> None:
        self.groups, self.norms = groups, {k: float(truth[i].norm()) for k, i in groups.items()}
        self._members = truth.new_zeros(len(truth), len(groups), dtype=torch.float64)
        self._units = self._members.clone()
        for number, (name, index) in enumerate(groups.items()):
            self._members[index, number] = 1.0
            if self.norms[name] > 0:
                self._units[index, number] = (truth[index] / self.norms[name]).double()
        self._sums = torch.zeros(len(groups), blocks, dtype=torch.float64, device="cpu")
        self._counts, self._kept = torch.zeros(blocks, device="cpu"), self._sums.new_zeros(0, len(groups))

    def __call__(self, block: int, draws: Tensor) -> None:
        """Adds (r, P) draws in double precision."""
        along = draws @ self._units.to(draws.device)
        across = (draws.square() @ self._members.to(draws.device) - along.square()).clamp(min=0.0).sqrt()
        self._sums[:, block] += (along.abs() / across).sum(0).cpu()
        self._counts[block] += len(draws)
        if len(self._kept) < KEPT:
            self._kept = torch.cat([self._kept, along[: KEPT - len(self._kept)].cpu()])

    def dsnr(self, group: str) -> Measured:
        """E[‖g∥‖ / ‖g⊥‖], the directional signal-to-noise ratio (Rainforth et al. 2018, arXiv:1802.04537, section 4.2); NaN for one or two
        parameters, for which this mean does not exist (1/‖g⊥‖ is heavy-tailed), and if the true gradient is zero.
        """
        if len(self.groups[group]) < 3 or self.norms[group] == 0.0:
            return math.nan, math.nan
        means = self._sums[list(self.groups).index(group)] / self._counts
        return float(means.mean()), float(means.std()) / math.sqrt(len(means))

    def along(self, group: str) -> tuple[float, ...]:
        """The components of the first draws along the true gradient, in its units."""
        return tuple(self._kept[:, list(self.groups).index(group)].tolist()) if self.norms[group] > 0 else ()
