"""Numbers for the page "Through the latent space", in which a reader drags a point through the latent space of a variational autoencoder."""

from __future__ import annotations

from typing import Any

from ... import data, pairs
from ...errors import Unsuitable
from ...inference.latent_space import LatentSpace
from ...pairs.vae import Decoder
from ...training.fit import fit
from ...training.result import Fit

DIGITS = 4  # significant digits of each number in the page


def figures(trained: Fit | None = None, *, seed: int = 0) -> dict[str, Any]:
    """The numbers of the page, for JSON.

    Args:
        trained: A fit of `vb.pairs.vae(latent=2)` to pictures; if None, one is trained on `vb.data.digits()`, which takes some seconds.
        seed: Seed for that training.

    Returns:
        `decoder`: weights and biases of its two layers; `codes`: E_q z of each row, with `labels` if the data have such a column; `image`: height, width.

    Raises:
        Unsuitable: A different pair or number of latents, or rows that are not pictures.
    """
    if trained is None:
        pair = pairs.vae(latent=2, seed=seed)
        trained = fit(pair, data.digits(), epochs=200, batch_size=100, learning_rate=0.003, seed=seed, device="cpu", progress=False)  # fmt: skip
    network = next((module for module in trained.pair.modules if isinstance(module, Decoder)), None)
    image = trained.data.image
    if network is None or network.latent != 2 or network.output != "bernoulli" or image is None:
        has = "no decoder of vbayes" if network is None else f"{network.latent} latents and {network.output} outputs"
        raise Unsuitable(
            f"This page shows a VAE with two latents and black-and-white images. Pair {trained.pair.name!r} has {has}, and its data are {'not images' if image is None else 'images'}. "
            "Wanted: a fit such as vb.fit(vb.pairs.vae(latent=2), vb.data.digits())."
        )
    mean, _ = LatentSpace(trained).encode()
    labels = trained.data.tensors.get("label")
    with trained.pair.scope():
        layers = [
            {name: _short(value.tolist()) for name, value in layer.named_parameters()}
            for layer in (network.hidden, network.mean)
        ]
    return {
        "decoder": layers, "codes": _short(mean.tolist()), "labels": [] if labels is None else labels.tolist(),
        "image": list(image), "data": trained.data.name,
    }  # fmt: skip


def _short(values: Any) -> Any:
    return [_short(value) for value in values] if isinstance(values, list) else float(f"{values:.{DIGITS}g}")
