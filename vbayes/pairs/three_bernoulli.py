"""Three dependent binary latents for each datum, and a factored guide."""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..pair.pair import Pair


@takes(rows=SIZE)
def three_bernoulli(rows: int = 2) -> Pair:
    """Three dependent binary latents with a factored guide, and so eight cases to enumerate.

    b1 ~ Bernoulli(0.4), b2 and b3 with logits linear in the earlier ones, x ~ N(weights · b, 0.8²) with learnt
    weights; q(b) = Π Bernoulli, with a logit for each datum and latent. `vb.tabulate` has the exact ELBO.

    Args:
        rows: N. The model is called with x of shape (N,).
    """

    def model(x: Tensor) -> None:
        weights = pyro.param("weights", lambda: torch.tensor([1.0, -0.7, 1.6], device=x.device))
        with pyro.plate("data", len(x)):
            b1 = pyro.sample("b1", dist.Bernoulli(x.new_tensor(0.4)))
            b2 = pyro.sample("b2", dist.Bernoulli(logits=1.2 * b1 - 0.5))
            b3 = pyro.sample("b3", dist.Bernoulli(logits=0.8 * b2 - b1 + 0.3))
            pyro.sample("x", dist.Normal(weights[0] * b1 + weights[1] * b2 + weights[2] * b3, 0.8), obs=x)

    def guide(x: Tensor) -> None:
        start = functools.partial(torch.linspace, -1.0, 1.2, 3 * rows, device=x.device)
        logits = pyro.param("logits", lambda: start().reshape(3, rows))
        with pyro.plate("data", len(x)):
            for i in range(3):
                pyro.sample(f"b{i + 1}", dist.Bernoulli(logits=logits[i]))

    return Pair(model, guide, name="three_bernoulli")
