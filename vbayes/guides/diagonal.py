"""Mean field: an independent normal for each number."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroParam
from torch import Tensor

from .curvature import Place, each_alone
from .whitened import Whitened


class Diagonal(Whitened):
    """Independent normals over all unconstrained latents: centre + w (m + s ε).

    The widths w are the standard deviations of each number given all others, which are those of mean field for a normal posterior.

    References:
        Kucukelbir et al. 2017, ADVI, arXiv:1603.00788, section 2.4.
    """

    words = "mean-field normal"
    _form = staticmethod(each_alone)

    def _start(self, like: Tensor) -> None:
        self.loc = PyroParam(torch.zeros_like(like))
        self.scale = PyroParam(torch.ones_like(like), constraints.softplus_positive)

    def away(self, place: Place) -> Tensor:
        return (place.centre.to(self.centre) - self.centre) / self.widths

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        return dist.Normal(self.centre + self.widths * self.loc, self.widths * self.scale).to_event(1)
