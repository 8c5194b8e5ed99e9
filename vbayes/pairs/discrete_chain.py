"""A small hidden Markov model, and a guide that factorises over its states."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..exact import hidden_markov as truth
from ..pair.exact import Exact
from ..pair.pair import Pair

NOISE = 0.8  # standard deviation of x given the state


@takes(rows=SIZE, steps=SIZE)
def discrete_chain(rows: int = 2, steps: int = 3) -> Pair:
    """Hidden Markov model with two states and a factored guide, with exact ELBO, evidence and posterior marginals.

    z_1 ~ Bernoulli(½), z_{t+1} ~ Categorical(transition[z_t]), x_t ~ N(means[z_t], 0.8²), transition and means learnt; q(z) = Π_t
    Categorical, free for each row and step.

    Args:
        rows: N. The model is called with x of shape (N, steps).
        steps: T.
    """

    def p(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        transition = pyro.param("transition", lambda: torch.tensor([[0.6, -0.4], [-0.3, 0.5]], device=x.device))
        means = pyro.param("means", lambda: torch.tensor([-0.5, 1.0], device=x.device))
        return torch.zeros_like(means).log_softmax(-1), transition.log_softmax(-1), means

    def q(x: Tensor) -> Tensor:
        """(N, T, 2) log-probabilities."""
        start = torch.sin(torch.arange(1.0, 1 + rows * steps * 2, device=x.device)).reshape(rows, steps, 2)
        return pyro.param("states", lambda: start.to(torch.get_default_dtype())).log_softmax(-1)

    def model(x: Tensor) -> None:
        logits, transition, means = p(x)
        with pyro.plate("data", len(x)):
            for t in range(steps):
                z = pyro.sample(f"z{t + 1}", dist.Categorical(logits=logits))
                pyro.sample(f"x{t + 1}", dist.Normal(means[z], NOISE), obs=x[:, t])
                logits = transition[z]

    def guide(x: Tensor) -> None:
        log_q = q(x)
        with pyro.plate("data", len(x)):
            for t in range(steps):
                pyro.sample(f"z{t + 1}", dist.Categorical(logits=log_q[:, t]))

    def known(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        initial, transition, means = p(x)
        return initial, transition, dist.Normal(means, NOISE).log_prob(x[..., None])

    def posterior(x: Tensor) -> dict[str, dist.Categorical]:
        found = truth.marginals(*known(x))
        return {f"z{t + 1}": dist.Categorical(found[:, t]) for t in range(steps)}

    exact = Exact(
        elbo=lambda x: truth.elbo(*known(x), q(x)).sum(),
        log_evidence=lambda x: truth.log_evidence(*known(x)).sum(),
        posterior=posterior,
    )
    return Pair(model, guide, name="discrete_chain", exact=exact)
