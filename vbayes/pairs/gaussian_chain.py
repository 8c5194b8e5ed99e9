"""A chain of two latents for each datum, and a guide that draws the second given the first."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..exact.linear_gaussian import LinearGaussian
from ..pair.exact import Exact
from ..pair.pair import Pair

STEP, NOISE = 0.7, 0.5  # standard deviations of z2 given z1, and of x given z2


@takes(rows=SIZE)
def gaussian_chain(rows: int = 2) -> Pair:
    """Chain of two latents with a hierarchical guide, with exact ELBO, evidence and posterior.

    z1 ~ N(0, 1), z2 ~ N(slope z1, 0.7²), x ~ N(z2, 0.5²); q(z1) = N(first, σ1²), q(z2|z1) = N(second + link z1, σ2²), with
    `first` and `second` for each datum. Here it matters how an estimator holds z1 constant.

    Args:
        rows: N. The model is called with x of shape (N,).
    """

    def slope(x: Tensor) -> Tensor:
        return pyro.param("slope", lambda: torch.tensor(0.8, device=x.device))

    def q(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        here = x.device
        first = pyro.param("first", lambda: torch.linspace(-0.2, 0.4, rows, device=here))
        second = pyro.param("second", lambda: torch.linspace(-0.3, 0.5, rows, device=here))
        link = pyro.param("link", lambda: torch.tensor(0.3, device=here))
        scales = pyro.param("scales", lambda: torch.tensor([0.8, 0.6], device=here), constraint=constraints.positive)
        return first, second, link, scales

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.Normal(x.new_zeros(()), 1.0))
            z2 = pyro.sample("z2", dist.Normal(slope(x) * z1, STEP))
            pyro.sample("x", dist.Normal(z2, NOISE), obs=x)

    def guide(x: Tensor) -> None:
        first, second, link, scales = q(x)
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.Normal(first, scales[0]))
            pyro.sample("z2", dist.Normal(second + link * z1, scales[1]))

    def truth(x: Tensor) -> LinearGaussian:
        a = slope(x)
        covariance = _joint(torch.ones_like(a), a, torch.full_like(a, STEP**2))
        seen = a.new_tensor([[0.0, 1.0]])
        return LinearGaussian(a.new_zeros(2), covariance, seen, a.new_zeros(1), a.new_full((1, 1), NOISE**2))

    def exact_elbo(x: Tensor) -> Tensor:
        first, second, link, scales = q(x)
        variances = scales.square()
        mean = torch.stack([first, second + link * first], -1)
        joint = torch.distributions.MultivariateNormal(mean, _joint(variances[0], link, variances[1]))
        return truth(x).elbo(x[:, None], joint).sum()

    def posterior(x: Tensor) -> dict[str, Any]:
        both = truth(x).posterior(x[:, None])
        return {f"z{i + 1}": dist.Normal(both.mean[:, i], both.variance[..., i].sqrt()) for i in range(2)}

    exact = Exact(exact_elbo, lambda x: truth(x).log_evidence(x[:, None]).sum(), posterior)
    return Pair(model, guide, name="gaussian_chain", exact=exact)


def _joint(first: Tensor, link: Tensor, second: Tensor) -> Tensor:
    """(2, 2) the covariance of z1 and z2 = link z1 + noise, from the variances of z1 and of the noise."""
    cross = link * first
    return torch.stack([torch.stack([first, cross]), torch.stack([cross, link * cross + second])])
