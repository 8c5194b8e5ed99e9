"""The toy on which gradients through a coin are compared: E[(b − t)²] over b ~ Bernoulli(θ), raised by its logit."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..pair import Exact, Pair


def bernoulli_toy(rows: int = 1) -> Pair:
    """E[(b − t)²] over b ~ Bernoulli(θ) as an ELBO, at θ = ½: the example of REBAR and RELAX.

    The guide draws b by its logit; the model has (b − t)² as a log-density and, for a prior, the guide as it is now, held
    constant. So log w = (b − t)² for each draw, and since a KL has no gradient where its two sides are equal, the ELBO's gradient is
    that of the expectation: θ(1 − θ)(1 − 2t).

    Args:
        rows: How many targets t, each with a logit of its own. The model is called with t of shape (rows,).

    References:
        Tucker et al. 2017, REBAR, arXiv:1703.07370, section 4.1; Grathwohl et al. 2018, RELAX, arXiv:1711.00123.
    """

    def logits() -> Tensor:
        return pyro.param("logit", lambda: torch.zeros(rows))

    def model(t: Tensor) -> None:
        with pyro.plate("data", len(t)):
            b = pyro.sample("b", dist.Bernoulli(logits=logits().detach()))
            pyro.factor("square", (b - t).square())

    def guide(t: Tensor) -> None:
        with pyro.plate("data", len(t)):
            pyro.sample("b", dist.Bernoulli(logits=logits()))

    def elbo(t: Tensor) -> Tensor:
        theta = torch.sigmoid(logits())
        return (theta * (1 - t).square() + (1 - theta) * t.square()).sum()

    def joint(t: Tensor) -> tuple[Tensor, Tensor]:
        """log p(t, b) for b = 1 and b = 0."""
        prior = logits().detach()
        return torch.nn.functional.logsigmoid(prior) + (1 - t).square(), torch.nn.functional.logsigmoid(-prior) + t**2

    def posterior(t: Tensor) -> dict[str, dist.Bernoulli]:
        one, zero = joint(t)
        return {"b": dist.Bernoulli(logits=one - zero)}

    exact = Exact(elbo, lambda t: torch.logaddexp(*joint(t)).sum(), posterior)
    return Pair(model, guide, name="bernoulli_toy", exact=exact)
