"""The variational autoencoder, and the generative network shared with its baselines."""

from __future__ import annotations

from typing import Literal, get_args

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..arguments.choice import Choice
from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..errors import BadInput
from ..pair.pair import Pair
from .sizes import check_columns, check_sizes

Output = Literal["bernoulli", "gaussian"]
OUTPUT = Choice(get_args(Output), "decoder output")


class Decoder(nn.Module):
    """p_θ(x, z): z ~ N(0, I), x ~ Bernoulli or Gaussian with a tanh network between.

    The Gaussian's mean goes through a sigmoid, for data in [0, 1]; its variance is a second output of the network.

    References:
        Kingma & Welling 2013, arXiv:1312.6114, appendix C.
    """

    def __init__(self, features: int, hidden: int, latent: int, output: Output) -> None:
        super().__init__()
        if output not in ("bernoulli", "gaussian"):
            raise BadInput(f"output={output!r} is not an output of the decoder. Wanted: 'bernoulli' or 'gaussian'.")
        self.features, self.latent, self.output = features, latent, output
        self.hidden = nn.Linear(latent, hidden)
        self.mean = nn.Linear(hidden, features)
        if output == "gaussian":
            self.log_variance = nn.Linear(hidden, features)

    def forward(self, z: Tensor) -> dist.TorchDistribution:
        """p_θ(x|z) with the features as its event: z (..., latent)."""
        h = torch.tanh(self.hidden(z))
        if self.output == "bernoulli":
            return dist.Bernoulli(logits=self.mean(h)).to_event(1)
        return dist.Normal(torch.sigmoid(self.mean(h)), torch.exp(0.5 * self.log_variance(h))).to_event(1)

    def model(self, x: Tensor) -> None:
        """The generative model, for x of shape (M, features)."""
        check_columns("decoder", x, self.features)
        pyro.module("decoder", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent), 1.0).to_event(1))
            pyro.sample("x", self(z), obs=x)


class Encoder(nn.Module):
    """q_φ(z|x) = N(μ(x), diag σ²(x)), both from one tanh layer.

    References:
        Kingma & Welling 2013, arXiv:1312.6114, appendix C.2.
    """

    def __init__(self, features: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.location = nn.Linear(hidden, latent)
        self.log_variance = nn.Linear(hidden, latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of z, each (M, latent)."""
        h = torch.tanh(self.hidden(x))
        return self.location(h), torch.exp(0.5 * self.log_variance(h))


@takes(features=SIZE, hidden=SIZE, latent=SIZE, output=OUTPUT)
def vae(
    features: int = 64, hidden: int = 128, latent: int = 5, *, output: Output = "bernoulli", seed: int | None = None
) -> Pair:
    """Variational autoencoder (VAE) of Kingma & Welling.

    Args:
        features: Number of features of a datum; the model is called with x of shape (M, features).
        hidden: Units in the tanh layer of encoder and decoder.
        latent: J, dimensions of z.
        output: Bernoulli (for binary x) or Gaussian (for x in [0, 1]).
        seed: Seed for the initial weights (PyTorch's default for linear layers).

    References:
        Kingma & Welling 2013, Auto-encoding variational Bayes, arXiv:1312.6114.
    """
    encoder, decoder = networks(features, hidden, latent, output=output, seed=seed)

    def guide(x: Tensor) -> None:
        check_columns("vae", x, features)
        pyro.module("encoder", encoder)
        location, scale = encoder(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(location, scale).to_event(1))

    return Pair(decoder.model, guide, name="vae")


def networks(features: int, hidden: int, latent: int, *, output: Output, seed: int | None) -> tuple[Encoder, Decoder]:
    """Encoder and decoder with initial weights from `seed`."""
    from .. import rng

    check_sizes(features=features, hidden=hidden, latent=latent)
    with rng.seeded(seed):
        return Encoder(features, hidden, latent), Decoder(features, hidden, latent, output)
