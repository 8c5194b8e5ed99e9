"""Starts by L-BFGS, which needs no second derivatives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from .. import rng
from .curvature import Place, elbo_of, starts_of
from .log_density import LogDensity

ITERATIONS = 1000
PROBES = 16  # random sign vectors, for estimating the diagonal of the curvature
HISTORY = 6  # steps in the history of the curvature estimate, as in Pathfinder


def mode_and_widths(density: LogDensity, *, seed: int = 0) -> Place:
    """The mode by L-BFGS, and widths from the diagonal of the curvature there, estimated from products with random signs.

    Args:
        density: The model's log density.
        seed: Seed for the signs.

    Returns:
        A place with `root` (D,) and without an ELBO.

    References:
        Liu & Nocedal 1989, On the limited memory BFGS method; Bekas, Kokiopoulou & Saad 2007, An estimator for the diagonal of a matrix.
    """
    found = minimize(
        _down(density), density.start.cpu().numpy(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS}
    )
    centre = torch.as_tensor(found.x).to(density.start)
    signs = (
        torch.randint(0, 2, (PROBES, density.size), generator=rng.stream(seed, 3), device="cpu").to(density.start) * 2
        - 1
    )
    step = 1e-4 * centre.abs().clamp_min(1.0)
    ahead, back = (density.gradients(centre + side * step * signs) for side in (1, -1))
    bend = (-signs * (ahead - back) / (2 * step)).mean(0)
    usual = bend[bend > 0].median() if bool((bend > 0).any()) else bend.new_ones(())
    root = torch.where(bend > 1e-3 * usual, bend, usual).rsqrt()
    return Place(centre, root, float("nan"), float("nan"), iterations=int(found.nit))


def bfgs_paths(density: LogDensity, paths: int, noise: Tensor, seed: int) -> list[Place]:
    """The normal with the best ELBO along the path of L-BFGS, from each of several starts.

    Args:
        density: The model's log density.
        paths: Number of starts: that of the prototype, and random ones within (−2, 2).
        noise: (S, D) standard normal.
        seed: Seed for the starts.

    References:
        Zhang, Carpenter, Gelman & Vehtari 2022, Pathfinder, arXiv:2108.03782, algorithms 1, 3 and 4.
    """
    found = []
    for start in starts_of(density, paths, seed):
        way = [start]
        minimize(
            _down(density), start.cpu().numpy(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "maxcor": HISTORY},
            callback=lambda x, way=way: way.append(torch.as_tensor(x.copy()).to(way[0])),
        )  # fmt: skip
        points = torch.stack(way)
        places = [p for p in _known(density, points, density.gradients(points), noise) if np.isfinite(p.elbo)]
        if places:
            found.append(max(places, key=lambda place: place.elbo))
    return found


def _known(density: LogDensity, points: Tensor, gradients: Tensor, noise: Tensor) -> list[Place]:
    """The normal estimated by L-BFGS at each point of its path after the first."""
    alpha = torch.ones_like(density.start)
    steps: list[tuple[Tensor, Tensor]] = []
    found = []
    for number in range(1, len(points)):
        s, z = points[number] - points[number - 1], gradients[number - 1] - gradients[number]
        if float(s @ z) > 1e-12 * float(
            z @ z
        ):  # the curvature along a step must be negative, or the estimate would not be positive definite
            alpha = _diagonal(alpha, s, z)
            steps = [*steps[1 - HISTORY :], (s, z)]
        covariance = _inverse(alpha, steps)
        root, wrong = torch.linalg.cholesky_ex(covariance)
        if int(wrong) or not root.isfinite().all():
            continue
        centre = points[number] + covariance @ gradients[number]
        found.append(
            Place(
                centre,
                root,
                elbo_of(density, centre, root, noise),
                float(gradients[number] @ (covariance @ gradients[number])) / 2,
                iterations=number,
            )
        )
    return found


def _diagonal(alpha: Tensor, s: Tensor, z: Tensor) -> Tensor:
    """Algorithm 3's update of the diagonal (Gilbert & Lemaréchal 1989)."""
    a, b, c = (z * alpha * z).sum(), s @ z, (s / alpha * s).sum()
    return 1 / (a / (b * alpha) + z.square() / b - a * (s / alpha).square() / (b * c))


def _inverse(alpha: Tensor, steps: list[tuple[Tensor, Tensor]]) -> Tensor:
    """(D, D) the BFGS update of a diagonal matrix by some steps, oldest first."""
    found = alpha.diag()
    for s, z in steps:
        rho = 1 / (s @ z)
        left = torch.eye(len(s), dtype=s.dtype, device=s.device) - rho * torch.outer(s, z)
        found = left @ found @ left.T + rho * torch.outer(s, s)
    return (found + found.T) / 2


def _down(density: LogDensity) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    def down(x: np.ndarray) -> tuple[float, np.ndarray]:
        here = torch.as_tensor(x).to(density.start)[None]
        value, gradient = density.many(here)[0], density.gradients(here)[0]
        return float((-value).nan_to_num(1e30, 1e30, 1e30)), (-gradient).nan_to_num(0.0, 0.0, 0.0).cpu().numpy()

    return down
