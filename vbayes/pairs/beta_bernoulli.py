"""Coins: an unknown probability for each, and a guide in the family of the posterior."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..exact import beta_bernoulli as truth
from ..pair.exact import Exact
from ..pair.pair import Pair

PRIOR = 1.5, 2.0


@takes(rows=SIZE)
def beta_bernoulli(rows: int = 2) -> Pair:
    """Beta–Bernoulli model with a Beta guide, whose path is implicit; with exact ELBO, evidence and posterior.

    θ ~ Beta(1.5, 2), x_t ~ Bernoulli(θ) for the tosses of a row; q(θ) = Beta(heads, tails), free for each row.

    Args:
        rows: N. The model is called with zeros and ones of shape (N, T).

    References:
        Figurnov, Mohamed & Mnih 2018, Implicit reparameterization gradients, arXiv:1805.08498.
    """

    def q(x: Tensor) -> tuple[Tensor, Tensor]:
        def between(low: float, high: float) -> Tensor:
            return torch.linspace(low, high, rows, device=x.device)

        heads = pyro.param("heads", lambda: between(2.0, 3.0), constraint=constraints.positive)
        return heads, pyro.param("tails", lambda: between(2.5, 1.8), constraint=constraints.positive)

    def prior(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.new_tensor(PRIOR[0]), x.new_tensor(PRIOR[1])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            theta = pyro.sample("theta", dist.Beta(*prior(x)))
            pyro.sample("x", dist.Bernoulli(theta[:, None]).expand(x.shape).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("theta", dist.Beta(*q(x)))

    def exact_posterior(x: Tensor) -> dict[str, dist.Beta]:
        known = truth.posterior(x, *prior(x))
        return {"theta": dist.Beta(known.concentration1, known.concentration0)}

    exact = Exact(
        elbo=lambda x: truth.elbo(x, *prior(x), torch.distributions.Beta(*q(x))).sum(),
        log_evidence=lambda x: truth.log_evidence(x, *prior(x)).sum(),
        posterior=exact_posterior,
    )
    return Pair(model, guide, name="beta_bernoulli", exact=exact)
