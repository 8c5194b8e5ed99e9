"""A small linear-Gaussian state-space model with a sequential guide."""

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
from .sizes import check_columns

STEP, NOISE = 0.7, 0.5  # standard deviations of z_t given z_{t−1}, and of x_t given z_t


@takes(steps=SIZE)
def state_space(steps: int = 3) -> Pair:
    """Linear-Gaussian state-space model with a guide that draws each latent given the previous one and the current datum; with exact ELBO, evidence and posterior marginals.

    z_t ~ N(slope z_{t−1}, 0.7²), x_t ~ N(z_t, 0.5²), z_0 = 0; q(z_t | z_{t−1}, x) = N(link z_{t−1} + gain x_t, scale²). With gain = 0 and link = slope the guide is the prior.

    Args:
        steps: T. The model is called with x of shape (N, T).
    """

    def slope(x: Tensor) -> Tensor:
        return pyro.param("slope", lambda: torch.tensor(0.8, device=x.device))

    def q(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        link = pyro.param("link", lambda: torch.tensor(0.5, device=x.device))
        gain = pyro.param("gain", lambda: torch.tensor(0.3, device=x.device))
        scale = pyro.param("scale", lambda: torch.tensor(0.6, device=x.device), constraint=constraints.positive)
        return link, gain, scale

    def model(x: Tensor) -> None:
        check_columns("state_space", x, steps)
        with pyro.plate("data", len(x)):
            z = x.new_zeros(())
            for t in range(steps):
                z = pyro.sample(f"z{t + 1}", dist.Normal(slope(x) * z, STEP))
                pyro.sample(f"x{t + 1}", dist.Normal(z, NOISE), obs=x[:, t])

    def guide(x: Tensor) -> None:
        link, gain, scale = q(x)
        with pyro.plate("data", len(x)):
            z = x.new_zeros(())
            for t in range(steps):
                z = pyro.sample(f"z{t + 1}", dist.Normal(link * z + gain * x[:, t], scale))

    def truth(x: Tensor) -> LinearGaussian:
        spread, eye = STEP * _carried(slope(x), steps), torch.eye(steps, dtype=x.dtype, device=x.device)
        return LinearGaussian(x.new_zeros(steps), spread @ spread.mT, eye, x.new_zeros(steps), NOISE**2 * eye)

    def exact_elbo(x: Tensor) -> Tensor:
        link, gain, scale = q(x)
        carried = _carried(link, steps)
        joint = torch.distributions.MultivariateNormal(gain * x @ carried.mT, scale_tril=scale * carried)
        return truth(x).elbo(x, joint).sum()

    def posterior(x: Tensor) -> dict[str, Any]:
        every = truth(x).posterior(x)
        return {f"z{t + 1}": dist.Normal(every.mean[:, t], every.variance[..., t].sqrt()) for t in range(steps)}

    def log_evidence(x: Tensor) -> Tensor:
        return truth(x).log_evidence(x)

    exact = Exact(exact_elbo, lambda x: log_evidence(x).sum(), posterior, log_evidence)
    return Pair(model, guide, name="state_space", exact=exact)


def _carried(slope: Tensor, steps: int) -> Tensor:
    """(T, T) how much of the noise of each step is in each latent: slope^(t − s) for s ≤ t."""
    lag = torch.arange(steps, device=slope.device)
    lag = lag.unsqueeze(1) - lag
    return torch.where(lag < 0, 0.0, slope ** lag.clamp(min=0))
