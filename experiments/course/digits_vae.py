"""A VAE of the digits: trained on two thirds of them, and what it makes of places in its latent space."""

from __future__ import annotations

import numpy as np
import pyro
import torch
from torch import Tensor

import vbayes as vb

SIDE, HELD = 8, 600


def halves(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x and labels to train on, x and labels held out, shuffled by a seed."""
    data = vb.data.digits()
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    x, label = (data.tensors[name][order] for name in ("x", "label"))
    return x[HELD:], label[HELD:], x[:HELD], label[:HELD]


def trained(
    x: Tensor, *, latent: int, hidden: int, epochs: int, seed: int, estimator: object = "analytic_kl"
) -> vb.Fit:
    pair = vb.pairs.vae(x.shape[1], hidden=hidden, latent=latent, seed=seed)
    return vb.fit(pair, x, estimator, epochs=epochs, batch_size=100, learning_rate=2e-3, seed=seed, progress=False)


def coded(fit: vb.Fit, x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, J) means and standard deviations of q(z|x)."""
    with fit.pair.scope(), torch.no_grad(), vb.seeded(0):
        q, _ = fit.pair.run(vb.Batch((x,)))
    site = q.nodes["z"]["fn"]
    return site.mean, site.stddev


def decoded(fit: vb.Fit, z: Tensor) -> np.ndarray:
    """(S, 8, 8) mean pictures of latents (S, J)."""
    model = pyro.poutine.condition(fit.pair.model, data={"z": z})
    with fit.pair.scope(), torch.no_grad():
        made = pyro.poutine.trace(model).get_trace(torch.zeros(len(z), SIDE * SIDE))
    return made.nodes["x"]["fn"].mean.numpy().reshape(-1, SIDE, SIDE)


def generated(fit: vb.Fit, count: int, latent: int, seed: int) -> np.ndarray:
    """(S, 8, 8) mean pictures of latents from the prior."""
    return decoded(fit, torch.randn(count, latent, generator=torch.Generator().manual_seed(seed)))
