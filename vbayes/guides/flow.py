"""A normalising flow: a transformed normal."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.transforms import AffineCoupling, LowerCholeskyAffine
from pyro.nn import DenseNN, PyroParam
from torch import Tensor, nn
from torch.distributions.transforms import AffineTransform, Transform

from .. import rng
from .starts import Start, best_normal
from .whitened import Whitened

LAYERS, UNITS = 6, 32


class Reversed(Transform):
    """Reverses a vector."""

    domain = codomain = constraints.real_vector
    bijective = True
    sign = +1

    def _call(self, x: Tensor) -> Tensor:
        return x.flip(-1)

    _inverse = _call

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """(...) zeros."""
        return torch.zeros_like(x[..., 0])


class Flow(Whitened):
    """A flow of affine couplings f that start as the identity, centre + L (m + s f(ε)); so it starts where `Full` does.

    A single latent has nothing to couple with, and stays normal.

    Args:
        model, start, seed: As for `Whitened`.
        layers: Number of couplings, which transform one half of the numbers in turn.
        units: Hidden units in each coupling's network, which has one hidden layer.

    References:
        Dinh, Sohl-Dickstein & Bengio 2017, Real NVP, arXiv:1605.08803; Agrawal, Sheldon & Domke 2020, Advances in black-box VI, arXiv:2006.10343.
    """

    words = "affine-coupling flow"

    def __init__(
        self, model: Any, *, start: Start = best_normal, seed: int = 0, layers: int = LAYERS, units: int = UNITS
    ) -> None:
        super().__init__(model, start=start, seed=seed)
        self.layers, self.units = layers, units

    @property
    def settled(self) -> bool:
        """False: only its start is at the best normal."""
        return False

    def _start(self, like: Tensor) -> None:
        size = len(like)
        with rng.seeded(self._seed):
            couplings = [_coupling(size, self.units) for _ in range(self.layers if size > 1 else 0)]
        self.loc = PyroParam(torch.zeros_like(like))
        self.scale = PyroParam(torch.ones_like(like), constraints.softplus_positive)
        self.couplings = nn.ModuleList(couplings).to(like)

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        noise = dist.Normal(torch.zeros_like(self.centre), 1.0).to_event(1)
        steps: list[Any] = []
        for coupling in self.couplings:
            steps += [coupling, Reversed(cache_size=1)]
        steps.append(AffineTransform(self.loc, self.scale, event_dim=1, cache_size=1))
        place: Any = (
            LowerCholeskyAffine(self.centre, self.root, cache_size=1)
            if self.root.dim() == 2
            else AffineTransform(self.centre, self.root, event_dim=1, cache_size=1)
        )
        return dist.TransformedDistribution(noise, [*steps, place])

    def _loc_scale(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(
            "a flow has no quantiles in closed form; compute them from draws: vb.posterior(fit).quantile(q)"
        )


def _coupling(size: int, units: int) -> Any:
    half = size // 2
    network = DenseNN(half, [units], [size - half, size - half], nonlinearity=nn.Tanh())
    last: Any = network.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
    return AffineCoupling(half, network, log_scale_min_clip=-2.0, log_scale_max_clip=2.0)
