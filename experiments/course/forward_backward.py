"""A hidden Markov model in NumPy, step by step: the reference for the parallel scans of vbayes.

Messages are scaled to sum to one, as in Rabiner 1989 (doi:10.1109/5.18626, section V.A); it uses no log-sum-exp, no scan, and nothing of vbayes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Known(NamedTuple):
    """Exact results for one chain with T steps and S states.

    `log_evidence` in nats; `posterior` (T, S) p(z_t | x); `moves` (S, S) expected numbers of transitions; `underflow` the first step at which p(x_1, …, x_t) underflows to 0
    in double precision, or T if there is none.
    """

    log_evidence: float
    posterior: np.ndarray
    moves: np.ndarray
    underflow: int


def log_normal(x: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """(T, S) log N(x_t; mean_s, sd_s²)."""
    return -0.5 * ((x[:, None] - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)


def forward_backward(initial: np.ndarray, transition: np.ndarray, log_density: np.ndarray) -> Known:
    """The forward-backward algorithm, from (S,) and (S, S) probabilities and (T, S) log p(x_t | state)."""
    highest = log_density.max(1)
    density = np.exp(log_density - highest[:, None])
    ahead, behind, given_past = np.empty_like(density), np.ones_like(density), np.empty(len(density))
    for t, here in enumerate(density):
        message = (ahead[t - 1] @ transition if t else initial) * here
        given_past[t] = message.sum()  # p(x_t | x_1, …, x_{t−1}), divided by the highest density
        ahead[t] = message / given_past[t]
    for t in range(len(density) - 1, 0, -1):
        behind[t - 1] = transition @ (density[t] * behind[t]) / given_past[t]
    moves = transition * (ahead[:-1].T @ (density[1:] * behind[1:] / given_past[1:, None]))
    so_far = np.cumsum(np.log(given_past) + highest)
    gone = np.exp(so_far) == 0
    return Known(float(so_far[-1]), ahead * behind, moves, int(gone.argmax()) if gone.any() else len(gone))


def best_path(initial: np.ndarray, transition: np.ndarray, log_density: np.ndarray) -> float:
    """log p(x, z) of the most probable path, in nats."""
    moves, best = np.log(transition), np.log(initial) + log_density[0]
    for here in log_density[1:]:
        best = (best[:, None] + moves).max(0) + here
    return float(best.max())


def of_path(initial: np.ndarray, transition: np.ndarray, log_density: np.ndarray, path: np.ndarray) -> float:
    """log p(x, z) of a given path (T,), in nats."""
    seen = log_density[np.arange(len(path)), path].sum()
    return float(np.log(initial[path[0]]) + np.log(transition[path[:-1], path[1:]]).sum() + seen)


def em_step(known: Known, x: np.ndarray) -> list[np.ndarray]:
    """The M-step: initial and transition probabilities, means and standard deviations that maximise the expected log-likelihood."""
    weight = known.posterior / known.posterior.sum(0)
    mean = x @ weight
    variance = ((x[:, None] - mean) ** 2 * weight).sum(0)
    return [known.posterior[0], known.moves / known.moves.sum(1, keepdims=True), mean, np.sqrt(variance)]
