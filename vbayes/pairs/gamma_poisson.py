"""Counts: an unknown positive rate for each row, and a guide in the family of the posterior."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..exact import gamma_poisson as truth
from ..pair.exact import Exact
from ..pair.pair import Pair

SHAPE = 2.0  # shape of the prior


@takes(rows=SIZE)
def gamma_poisson(rows: int = 2) -> Pair:
    """Gamma–Poisson model with a Gamma guide, whose path is implicit; with exact ELBO, evidence and posterior.

    λ ~ Gamma(2, prior_rate), x_t ~ Poisson(λ) for the counts of a row; q(λ) = Gamma(shape, rate), free for each row. The
    prior's rate is learnt.

    Args:
        rows: N. The model is called with counts of shape (N, T).

    References:
        Figurnov, Mohamed & Mnih 2018, Implicit reparameterization gradients, arXiv:1805.08498.
    """

    def q(x: Tensor) -> tuple[Tensor, Tensor]:
        def between(low: float, high: float) -> Tensor:
            return torch.linspace(low, high, rows, device=x.device)

        shape = pyro.param("shape", lambda: between(3.0, 4.0), constraint=constraints.positive)
        return shape, pyro.param("rate", lambda: between(2.0, 1.5), constraint=constraints.positive)

    def prior(x: Tensor) -> tuple[Tensor, Tensor]:
        rate = pyro.param("prior_rate", lambda: torch.tensor(0.8, device=x.device), constraint=constraints.positive)
        return x.new_tensor(SHAPE), rate

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            rate = pyro.sample("lambda", dist.Gamma(*prior(x)))
            pyro.sample("x", dist.Poisson(rate[:, None]).expand(x.shape).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("lambda", dist.Gamma(*q(x)))

    def exact_posterior(x: Tensor) -> dict[str, dist.Gamma]:
        known = truth.posterior(x, *prior(x))
        return {"lambda": dist.Gamma(known.concentration, known.rate)}

    exact = Exact(
        elbo=lambda x: truth.elbo(x, *prior(x), torch.distributions.Gamma(*q(x))).sum(),
        log_evidence=lambda x: truth.log_evidence(x, *prior(x)).sum(),
        posterior=exact_posterior,
    )
    return Pair(model, guide, name="gamma_poisson", exact=exact)
