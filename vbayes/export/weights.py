"""Weights of draws, smoothed, and arrays of draws that are resampled by them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .arviz import psis

ALIKE = 0.01  # nats between the smallest and the largest weight of a tail that is only rounding
NOTHING = 1e4  # nats below the largest weight that stand for a weight of zero, as a finite number
TAIL = (0.2, 3.0)  # the fitted tail is a fifth of S weights, and at most 3 √S
FEWEST = 25  # minimum number of weights for fitting a tail


class Smooth(NamedTuple):
    """Smoothed weights of K draws.

    Attributes:
        log_w: (K, *local) smoothed and normalised.
        k_hat: (*local) shape of the Pareto tail; 0 if the weights are equal, infinite if some are NaN or there are too few.
        k_hat_se: (*local) its standard error.
        effective: (*local) the effective number of draws from the posterior (Kong 1992).
    """

    log_w: np.ndarray
    k_hat: np.ndarray
    k_hat_se: np.ndarray
    effective: np.ndarray


def smooth(log_w: np.ndarray) -> Smooth:
    """Smooths weights with ArviZ's PSIS.

    The standard error of k̂ is that of the maximum-likelihood fit of as many excesses (Smith 1987): (1 + k) / √M.

    Args:
        log_w: (K, *local) log-weights. NaN counts as no weight.

    References:
        Vehtari, Simpson, Gelman, Yao & Gabry 2024, Pareto smoothed importance sampling, arXiv:1507.02646.
        Smith 1987, Estimating tails of probability distributions, doi:10.1214/aos/1176350499.
    """
    count, array = len(log_w), np.moveaxis(np.asarray(log_w, dtype=float), 0, -1)
    broken = np.isnan(array).any(-1) | np.isposinf(array).any(-1) | np.isneginf(array).all(-1)
    finite = np.isfinite(array)
    top = np.where(finite.any(-1), np.where(finite, array, -np.inf).max(-1), 0.0)
    clean = np.where(finite, array, top[..., None] - NOTHING)
    alike = np.ptp(clean, axis=-1) < ALIKE
    values, k = psis(clean)
    k = np.where(broken | (count < FEWEST), np.inf, np.where(alike, 0.0, k))
    known = np.isfinite(k) & ~alike
    tail = math.ceil(min(TAIL[0] * count, TAIL[1] * count**0.5))
    se = np.where(known, np.maximum(1 + np.where(known, k, 0.0), 0.5), 0.0) / tail**0.5
    effective = np.where(broken, 0.0, 1 / np.exp(2 * values).sum(-1))
    return Smooth(np.moveaxis(values, -1, 0), k, se, effective)


def statistics(log_w: np.ndarray) -> dict[str, np.ndarray]:
    """Entries of `sample_stats` for weights (S, *local): `log_weight`, smoothed and normalised, and `pareto_k`, repeated for all draws."""
    made = smooth(log_w)
    return {"log_weight": made.log_w, "pareto_k": np.broadcast_to(made.k_hat, log_w.shape).copy()}


def resampled(
    groups: Mapping[str, Mapping[str, np.ndarray]],
    dims: Mapping[str, Sequence[str]],
    local: Sequence[str],
    generator: np.random.Generator,
) -> dict[str, dict[str, np.ndarray]]:
    """Resamples groups of (1, S, …) arrays by their weights, separately for each datum with its own weights.

    Args:
        groups: Groups with `log_weight` in `sample_stats`.
        dims: Variable → names of its dimensions.
        local: Names of the dimensions of a weight besides the draws.
        generator: Generator for the resampling.

    Returns:
        posterior, posterior_predictive and log_likelihood of the chosen draws, for variables that have the local dimensions; `pareto_k`; and the other groups
        unchanged. log_p, log_q and log_weight are left out, so that draws are not weighted twice.
    """
    log_weight = groups["sample_stats"]["log_weight"][0]
    flat = np.exp(log_weight.reshape(len(log_weight), -1))
    uniform = generator.random((len(flat), flat.shape[1]))
    below = np.cumsum(flat, 0)
    chosen = np.stack([np.searchsorted(b / b[-1], u) for b, u in zip(below.T, uniform.T, strict=True)], 1)
    chosen = chosen.clip(max=len(flat) - 1).reshape(log_weight.shape)
    found: dict[str, dict[str, np.ndarray]] = {}
    for group, variables in groups.items():
        if group in ("posterior", "posterior_predictive", "log_likelihood"):
            kept = {n: v for n, v in variables.items() if set(local) <= set(_named(n, v, dims))}
            found[group] = {n: _taken(v[0], chosen, _named(n, v, dims), local)[None] for n, v in kept.items()}
        elif group == "sample_stats":
            found[group] = {"pareto_k": variables["pareto_k"]}
        else:
            found[group] = dict(variables)
    return found


def _named(name: str, array: np.ndarray, dims: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of the dimensions of one draw; a log-likelihood has lost those of an event."""
    return list(dims.get(name, ()))[: array.ndim - 2]


def _taken(values: np.ndarray, chosen: np.ndarray, names: Sequence[str], local: Sequence[str]) -> np.ndarray:
    """Selects from (S, …) the chosen draw of each datum, (S, *local)."""
    shape = [1] * (values.ndim - 1)
    order = sorted(range(len(local)), key=lambda i: names.index(local[i]))
    for size, name in zip(chosen.shape[1:], local, strict=True):
        shape[names.index(name)] = size
    index = chosen.transpose([0, *(1 + i for i in order)]).reshape(len(chosen), *shape)
    return np.take_along_axis(values, np.broadcast_to(index, (len(chosen), *values.shape[1:])), 0)
