"""The flat prior of a plain autoencoder over its code."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from ..errors import BadInput


class Flat(dist.ImproperUniform):
    """Improper density 1 on real vectors: log p(h) = 0, so that log p(x, h) = log p(x|h).

    It has no finite integral, so it can't be drawn from, and there is no evidence p(x).

    Args:
        size: Dimensions of h.
        batch_shape: Shape of the batch of h.
    """

    def __init__(self, size: int, batch_shape: tuple[int, ...] = ()) -> None:
        super().__init__(dist.constraints.real_vector, torch.Size(batch_shape), torch.Size((size,)))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Flat:
        """The same density for another batch shape."""
        return Flat(self.event_shape[0], tuple(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """0 for each of (*batch, size), with the dtype and on the device of the value, unlike Pyro's own."""
        return value.new_zeros(torch.broadcast_shapes(value.shape[:-1], self.batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Raises `BadInput`: there is nothing to draw from."""
        raise BadInput(
            "This autoencoder has no prior over its code, so neither codes nor data can be drawn. Wanted: codes of data, from the guide; or a "
            "pair with a prior, such as vb.pairs.vae or vb.pairs.probabilistic_pca."
        )
