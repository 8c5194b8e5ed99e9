"""Data sets of pictures, in a part to train on and a part held out, and a VAE of them."""

from __future__ import annotations

import torch

import vbayes as vb

HELD = {"digits": 600, "mnist": 1000, "binarized_mnist": 1000}


def split(name: str = "digits", seed: int | None = None, *, rows: int | None = None) -> tuple[vb.Dataset, vb.Dataset]:
    """Data to train on, the first `rows` of them if given, and data held out.

    Digits are shuffled by the seed. MNIST's test split is held out; "stochastic_mnist" is MNIST drawn anew in each epoch with its grey values as
    probabilities, and once for all of the test split (as Burda, Grosse & Salakhutdinov 2016 have it). Of the Frey faces, frames of a film, every second one is: neighbours are alike, so
    what is held out lies between what was seen.
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
    """A VAE, with Bernoulli or Gaussian pixels as the data have it, after so many epochs or steps."""
    output = "bernoulli" if data.support == "binary" else "gaussian"
    pair = vb.pairs.vae(data.first.shape[1], hidden=hidden, latent=latent, output=output, seed=seed)
    length = {"epochs": epochs, "steps": steps, "batch_size": batch_size}
    return vb.fit(pair, data, estimator, learning_rate=2e-3, seed=seed, progress=False, **length)
