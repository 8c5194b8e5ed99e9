"""A hidden Markov chain of three steps and two states."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..pair import Pair

STEPS = 3


def discrete_chain() -> Pair:
    """s₁ ~ Bernoulli(½), s_t stays with probability σ(v), x_t ~ N(2 s_t, 1), for each sequence x of shape (M, 3); the guide is factored, with a logit a step."""

    def model(x: Tensor) -> None:
        stay = pyro.param("stay", lambda: torch.tensor(1.2))
        with pyro.plate("data", len(x)):
            logit = x.new_zeros(())
            for t in range(STEPS):
                s = pyro.sample(f"s{t}", dist.Bernoulli(logits=logit))
                pyro.sample(f"x{t}", dist.Normal(2 * s, 1.0), obs=x[:, t])
                logit = stay * (2 * s - 1)

    def guide(x: Tensor) -> None:
        logits = pyro.param("logits", lambda: torch.tensor([-0.5, 0.3, 0.8]))
        slope = pyro.param("slope", lambda: torch.tensor(0.7))
        with pyro.plate("data", len(x)):
            for t in range(STEPS):
                pyro.sample(f"s{t}", dist.Bernoulli(logits=logits[t] + slope * (x[:, t] - 1)))

    return Pair(model, guide, name="discrete_chain")
