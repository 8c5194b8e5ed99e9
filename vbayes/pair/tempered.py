"""Latents whose log-density a guide scales, by `pyro.poutine.scale`, as for an annealed KL: what is trained then is no longer made of log-weights."""

from __future__ import annotations

import math

import pyro
import torch

from ..data.dataset import Batch
from ..errors import Unsuitable
from ..summaries.card import first_few
from ..validation import validation
from .pair import Pair
from .sites import Layout, latents


def tempered(q: pyro.poutine.Trace, p: pyro.poutine.Trace) -> dict[str, float]:
    """Latent of the guide → the factor of its log-density beyond those of its plates, the one farthest from 1; empty if all sites of guide and model have the same."""
    if Layout(q, p).scale != 1.0:
        return {}
    found = {}
    for site in latents(q):
        stack = site["cond_indep_stack"]
        plates = math.prod(frame.full_size / frame.size for frame in stack if frame.full_size not in (None, frame.size))
        factors = torch.as_tensor(site["scale"], dtype=torch.float64, device="cpu").reshape(-1) / plates
        factor = float(factors[(factors - 1).abs().argmax()])
        if not math.isclose(factor, 1.0, rel_tol=1e-6):
            found[site["name"]] = factor
    return found


def tempered_of(pair: Pair, batch: Batch) -> dict[str, float]:
    """Runs a pair once, and returns its `tempered`."""
    with pair.look(), torch.no_grad(), validation(False):
        return tempered(*pair.run(batch))


def require_weights(pair: Pair, batch: Batch) -> None:
    """Raises `Unsuitable` if log p − log q of a pair is not the log-weight of a draw."""
    if found := tempered_of(pair, batch):
        said = first_few(f"{name!r} by {factor:.3g}" for name, factor in found.items())
        raise Unsuitable(
            f"The guide of pair {pair.name!r} scales the log-density of {said} (pyro.poutine.scale), so log p − log q is not the log-weight of a draw: it bounds no evidence, and says "
            "nothing about the posterior. Wanted: a scale of 1, as at the end of an annealed KL. Fix: set it to 1 for this call; or leave the handler out, and weight the KL by vb.Beta."
        )
