"""The sampling baseline: the autoencoder's model and q, without gradients through the draws."""

from __future__ import annotations

import pyro
from pyro.distributions.testing.fakes import NonreparameterizedNormal
from torch import Tensor

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..pair.pair import Pair
from .vae import OUTPUT, Output, networks


@takes(features=SIZE, hidden=SIZE, latent=SIZE, output=OUTPUT)
def monte_carlo(
    features: int = 64, hidden: int = 128, latent: int = 5, *, output: Output = "bernoulli", seed: int | None = None
) -> Pair:
    """Sampling baseline: the autoencoder's model and guide, without a reparameterised path.

    Only sampling and the score function remain, as in variational inference before the reparameterisation trick.

    Args:
        features, hidden, latent, output, seed: As for `vae`; with the same seed, the same initial weights.

    References:
        Paisley, Blei & Jordan 2012, arXiv:1206.6430; Mnih & Gregor 2014, arXiv:1402.0030.
    """
    encoder, decoder = networks(features, hidden, latent, output=output, seed=seed)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        location, scale = encoder(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", NonreparameterizedNormal(location, scale).to_event(1))

    return Pair(decoder.model, guide, name="monte_carlo")
