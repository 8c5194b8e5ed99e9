"""`vb.fit` with nothing but a model and data, and as it was before that could be."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from torch import Tensor
from torch.distributions import biject_to

import vbayes as vb

from . import languages
from .found import Found
from .posteriors import Posterior

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def ready(posterior: Posterior, dtype: str) -> tuple[Callable[..., None], dict[str, Tensor]]:
    """Its model, and its data by column."""
    data = {name: torch.tensor(column, dtype=DTYPES[dtype]) for name, column in posterior.data.items()}
    return posterior.formula(languages.pyro()), data


def no_settings(posterior: Posterior, *, seed: int, draws: int, dtype: str) -> Found:
    """A model and data, nothing else; then the draws that the verdict tells to use."""
    model, data = ready(posterior, dtype)
    start = time.perf_counter()
    # What is to stand here, once models need no guide: fit = vb.fit(model, data); said = fit.diagnose(); fit.posterior(draws)
    guide = AutoMultivariateNormal(model, init_loc_fn=_feasible(data))
    fit = vb.fit(
        vb.Pair(model, guide), data, vb.STL(), steps=5000, learning_rate=0.02, seed=seed, progress=False, device="cpu"
    )
    return _used(fit, start, draws, seed)


def old_default(posterior: Posterior, *, seed: int, draws: int, dtype: str) -> Found:
    """A fully factored Gaussian and 1000 steps of Adam at 0.001, after which `fit` said nothing."""
    model, data = ready(posterior, dtype)
    start = time.perf_counter()
    pair = vb.Pair(model, AutoNormal(model, init_loc_fn=_feasible(data)))
    fit = vb.fit(pair, data, "analytic_kl", steps=1000, learning_rate=1e-3, seed=seed, progress=False, device="cpu")
    seconds, start = time.perf_counter() - start, time.perf_counter()
    found = vb.posterior(fit, draws=draws, method="guide", seed=seed)
    assert found.effective is not None
    return Found(
        _arrays(found),
        "",
        seconds,
        time.perf_counter() - start,
        float(found.effective.min()),
        says="1000 steps of Adam",
    )


def _used(fit: vb.Fit, start: float, draws: int, seed: int) -> Found:
    plain = vb.posterior(fit, draws=1000, method="guide", seed=seed)
    assert plain.effective is not None
    part = float(plain.effective.min()) / 1000
    trust = "bad" if part < 0.1 else "reweight" if part < 2 / 3 else "good"
    seconds, start = time.perf_counter() - start, time.perf_counter()
    method: Any = "importance" if trust == "reweight" else "guide"
    used = vb.posterior(fit, draws=draws, method=method, proposals=2 * draws, seed=seed)
    drawing = time.perf_counter() - start
    return Found(_arrays(used), trust, seconds, drawing, part * draws, says=plain.verdict())


def _arrays(found: vb.Posterior) -> dict[str, Any]:
    return {name: values.double().cpu().numpy() for name, values in found.draws.items()}


def _feasible(data: dict[str, Tensor]) -> Callable[[Any], Tensor]:
    """Pyro's `init_to_feasible`, the place of unconstrained zeros, which can't look at a flat prior: that has no draws."""
    like = next(iter(data.values()))

    def start(site: Any = None) -> Any:
        if site is None:
            return start
        to = biject_to(site["fn"].support)
        return to(like.new_zeros(to.inverse_shape(site["fn"].shape())))

    return start
