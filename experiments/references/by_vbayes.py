"""`vb.fit` given only a model and data, and with the default guide and settings of earlier versions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor
from torch.distributions import biject_to

import vbayes as vb

from . import languages
from .found import Found
from .posteriors import Posterior

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def ready(posterior: Posterior, dtype: str) -> tuple[Callable[..., None], dict[str, Tensor]]:
    """The posterior's Pyro model, and its data by column."""
    data = {name: torch.tensor(column, dtype=DTYPES[dtype]) for name, column in posterior.data.items()}
    return posterior.formula(languages.pyro()), data


def no_settings(posterior: Posterior, *, seed: int, draws: int, dtype: str) -> Found:
    """Fits with no settings, then takes the draws that the verdict recommends."""
    model, data = ready(posterior, dtype)
    start = time.perf_counter()
    fit = vb.fit(model, data, seed=seed, progress=False)
    said = fit.diagnose(seed=seed)
    seconds, start = time.perf_counter() - start, time.perf_counter()
    used = fit.posterior(draws=draws, seed=seed)
    drawing = time.perf_counter() - start
    worth = said.effective / said.draws * draws
    return Found(_arrays(used), said.trust, seconds, drawing, worth, said.k_hat, said.verdict())


def old_default(posterior: Posterior, *, seed: int, draws: int, dtype: str) -> Found:
    """The former default: a mean-field Gaussian and 1000 steps of Adam at 0.001, with no verdict."""
    model, data = ready(posterior, dtype)
    start = time.perf_counter()
    pair = vb.Pair(model, AutoNormal(model, init_loc_fn=_feasible(data)))
    fit = vb.fit(pair, data, "analytic_kl", steps=1000, learning_rate=1e-3, seed=seed, progress=False, device="cpu")
    seconds, start = time.perf_counter() - start, time.perf_counter()
    found = vb.posterior(fit, draws=draws, method="guide", seed=seed)
    drawing, said = time.perf_counter() - start, fit.diagnose(seed=seed)
    worth = said.effective / said.draws * draws
    return Found(_arrays(found), "", seconds, drawing, worth, said.k_hat, "1000 steps of Adam at 0.001")


def _arrays(found: vb.Posterior) -> dict[str, Any]:
    return {name: values.double().cpu().numpy() for name, values in found.draws.items()}


def _feasible(data: dict[str, Tensor]) -> Callable[[Any], Tensor]:
    """Like Pyro's `init_to_feasible`: starts at zero in unconstrained coordinates, but without drawing from the prior, which a flat prior doesn't allow."""
    like = next(iter(data.values()))

    def start(site: Any = None) -> Any:
        if site is None:
            return start
        to = biject_to(site["fn"].support)
        return to(like.new_zeros(to.inverse_shape(site["fn"].shape())))

    return start
