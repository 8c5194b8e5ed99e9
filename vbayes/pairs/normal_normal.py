"""One latent per datum, everything Gaussian, and every answer known."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..exact import normal_normal as truth
from ..pair.exact import Exact
from ..pair.pair import Pair


@takes(rows=SIZE)
def normal_normal(rows: int = 2) -> Pair:
    """Conjugate normal model, with exact ELBO, evidence and posterior.

    z ~ N(0, 1), x ~ N(z, 1); q(z) = N(loc, scale²) with a location per datum and one scale for all. Pyro's own gradient tests use it. It starts at q = prior.

    Args:
        rows: N, the number of data, each with its own location. The model is called with all of them.
    """

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def q(x: Tensor) -> tuple[Tensor, Tensor]:
        loc = pyro.param("loc", lambda: torch.zeros(rows, device=x.device))
        scale = pyro.param("scale", lambda: torch.ones((), device=x.device), constraint=dist.constraints.positive)
        return loc, scale

    def guide(x: Tensor) -> None:
        loc, scale = q(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale))

    exact = Exact(
        elbo=lambda x: truth.elbo(x, *q(x)),
        log_evidence=truth.log_evidence,
        posterior=lambda x: {"z": dist.Normal(*truth.posterior(x))},
    )
    return Pair(model, guide, name="normal_normal", exact=exact)
