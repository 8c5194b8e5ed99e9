"""What single draws of a gradient have along the true one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .moments import Measured

KEPT = 400  # draws whose part along the true gradient is kept, for histograms


class Directions:
    """Sees every draw and keeps, for each group, its part along the true gradient against that across it.

    Args:
        truth: (P,) the true gradient.
        groups: Name → indices of its parameters.
        blocks: B, of draws.
    """

    def __init__(self, truth: Tensor, groups: Mapping[str, Tensor], blocks: int) -> None:
        self.groups, self.norms = groups, {k: float(truth[i].norm()) for k, i in groups.items()}
        self.units = {k: truth[i] / self.norms[k] if self.norms[k] > 0 else truth[i] for k, i in groups.items()}
        self.sums, self.counts = torch.zeros(len(groups), blocks, dtype=torch.float64), torch.zeros(blocks)
        self._kept: dict[str, list[Tensor]] = {k: [] for k in groups}
        self._count = 0

    def __call__(self, block: int, chunk: Tensor) -> None:
        """Looks at draws of shape (r, P)."""
        self.counts[block] += len(chunk)
        for number, (name, index) in enumerate(self.groups.items()):
            part = chunk if len(index) == chunk.shape[1] else chunk[:, index.to(chunk.device)]
            along = part @ self.units[name].to(part)
            across = (part.square().sum(1) - along.square()).clamp(min=0.0).sqrt()
            self.sums[number, block] += float((along.abs() / across).sum())
            if self._count < KEPT:
                self._kept[name].append(along[: KEPT - self._count].double().cpu())
        self._count += len(chunk)

    def dsnr(self, group: str) -> Measured:
        """E[‖g∥‖ / ‖g⊥‖], the directional signal-to-noise ratio (Rainforth et al. 2018, arXiv:1802.04537, section 4.2); NaN for one or two
        parameters, of which it has no mean (1/‖g⊥‖ is too large too often), and where the true gradient is zero.
        """
        if len(self.groups[group]) < 3 or self.norms[group] == 0.0:
            return math.nan, math.nan
        means = self.sums[list(self.groups).index(group)] / self.counts
        return float(means.mean()), float(means.std()) / math.sqrt(len(means))

    def along(self, group: str) -> tuple[float, ...]:
        """What the first draws have along the true gradient, in its units."""
        return tuple(torch.cat(self._kept[group]).tolist()) if self.norms[group] > 0 else ()
