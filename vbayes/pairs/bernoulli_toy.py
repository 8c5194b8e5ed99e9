"""The usual toy problem for gradient estimators of discrete variables."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..arguments.real import PROBABILITY
from ..arguments.takes import takes
from ..pair.exact import Exact
from ..pair.pair import Pair


@takes(probability=PROBABILITY)
def bernoulli_toy(target: float = 0.45, probability: float = 0.5) -> Pair:
    """Toy problem: maximise E[(b − t)²] over the logit of b ~ Bernoulli(θ).

    The prior is q itself, held constant, so log w = (b − t)², and the gradient of the ELBO is that of the expectation.

    Args:
        target: Target, t.
        probability: Initial value of θ.

    References:
        Tucker et al. 2017, REBAR, arXiv:1703.07370; Grathwohl et al. 2018, RELAX, arXiv:1711.00123.
    """

    def logit(x: Tensor) -> Tensor:
        return pyro.param("logit", lambda: torch.logit(torch.tensor(probability, device=x.device)))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(logits=logit(x).detach()))
            pyro.factor("gain", (b - target) ** 2)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=logit(x)))

    def elbo(x: Tensor) -> Tensor:
        theta = torch.sigmoid(logit(x))
        return len(x) * (theta * (1 - target) ** 2 + (1 - theta) * target**2)

    def joint(x: Tensor) -> tuple[Tensor, Tensor]:
        """log p(b) e^(b − t)² for b = 1 and b = 0."""
        prior = logit(x).detach()
        return logsigmoid(prior) + (1 - target) ** 2, logsigmoid(-prior) + target**2

    def log_evidence(x: Tensor) -> Tensor:
        return len(x) * torch.logaddexp(*joint(x))

    def posterior(x: Tensor) -> dict[str, dist.Bernoulli]:
        one, zero = joint(x)
        return {"b": dist.Bernoulli(logits=(one - zero).expand(len(x)))}

    return Pair(model, guide, name="bernoulli_toy", exact=Exact(elbo, log_evidence, posterior))
