"""Data sets of pictures, split into training and held-out data, and a VAE for them."""

from __future__ import annotations

import torch

import vbayes as vb

HELD = {"digits": 600, "mnist": 1000, "binarized_mnist": 1000}


def split(name: str = "digits", seed: int | None = None, *, rows: int | None = None) -> tuple[vb.Dataset, vb.Dataset]:
    """Training data (their first `rows`, if given) and held-out data.

    Digits are shuffled with the seed. For MNIST the test split is held out; "stochastic_mnist" is MNIST with pixels redrawn in each epoch, with grey values as
    probabilities, and drawn once for the test split (as in Burda, Grosse & Salakhutdinov 2016). Of the Frey faces, frames of a film, every second one is held out: neighbours are
    similar, so held-out frames lie between training frames.
    """
    if name == "digits":
        data = vb.data.digits()
        order = torch.randperm(
            len(data), generator=torch.Generator().manual_seed(vb.default_seed() if seed is None else seed)
        )
        train, held = data.rows(order[HELD[name] :]), data.rows(order[: HELD[name]])
    elif name == "frey_face":
        data = vb.data.frey_face()
        train, held = data.rows(slice(0, None, 2)), data.rows(slice(1, None, 2))
    elif name == "stochastic_mnist":
        train = vb.data.mnist(binary=False).binarized("dynamic")
        held = vb.data.mnist(split="test", binary=False).binarized("static")
    else:
        load = getattr(vb.data, name)
        train, held = load(split="train"), load(split="test").rows(slice(0, HELD[name]))
    return (train if rows is None else train.rows(slice(0, rows))), held


def trained(
    data: vb.Dataset,
    *,
    latent: int,
    hidden: int,
    seed: int,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 100,
    estimator: object = "analytic_kl",
) -> vb.Fit:
    """A VAE, with Bernoulli or Gaussian pixels according to the data, trained for a number of epochs or steps."""
    output = "bernoulli" if data.support == "binary" else "gaussian"
    pair = vb.pairs.vae(data.first.shape[1], hidden=hidden, latent=latent, output=output, seed=seed)
    length = {"epochs": epochs, "steps": steps, "batch_size": batch_size}
    return vb.fit(pair, data, estimator, learning_rate=2e-3, seed=seed, progress=False, **length)
