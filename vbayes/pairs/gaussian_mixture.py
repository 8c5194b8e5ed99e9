"""A mixture of Gaussians: which component a datum comes from is its latent."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..pair.exact import Exact
from ..pair.pair import Pair

SCALE = 0.7  # standard deviation of each component


@takes(rows=SIZE, components=SIZE)
def gaussian_mixture(rows: int = 2, components: int = 3) -> Pair:
    """Gaussian mixture with a categorical latent for each datum, with exact ELBO, evidence and posterior.

    z ~ Categorical(weights), x ~ N(means[z], 0.7²), weights and means learnt; q(z) = Categorical, free for each datum.

    Args:
        rows: N. The model is called with x of shape (N,).
        components: Number of components, C.
    """

    def p(x: Tensor) -> tuple[Tensor, Tensor]:
        means = pyro.param("means", lambda: torch.linspace(-1.0, 1.5, components, device=x.device))
        weights = pyro.param("weights", lambda: torch.linspace(0.3, -0.2, components, device=x.device))
        return weights, means

    def q(x: Tensor) -> Tensor:
        start = torch.cos(torch.arange(1.0, 1 + rows * components, device=x.device)).reshape(rows, components)
        return pyro.param("assignment", lambda: start.to(torch.get_default_dtype()))

    def model(x: Tensor) -> None:
        weights, means = p(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(logits=weights))
            pyro.sample("x", dist.Normal(means[z], SCALE), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Categorical(logits=q(x)))

    def joint(x: Tensor) -> Tensor:
        """(N, C) log p(x, z)."""
        weights, means = p(x)
        return weights.log_softmax(-1) + dist.Normal(means, SCALE).log_prob(x[:, None])

    def elbo(x: Tensor) -> Tensor:
        log_q = q(x).log_softmax(-1)
        return (log_q.exp() * (joint(x) - log_q)).sum()

    exact = Exact(elbo, lambda x: joint(x).logsumexp(-1).sum(), lambda x: {"z": dist.Categorical(logits=joint(x))})
    return Pair(model, guide, name="gaussian_mixture", exact=exact)
