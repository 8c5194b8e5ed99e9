"""Location and width of a posterior, from its curvature: the start of guides chosen by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .. import rng
from .log_density import LogDensity

DRAWS = 128  # draws at each point, for its ELBO
LOOKS = 16  # points of a path at which the ELBO is evaluated, denser towards its end
ITERATIONS = 100
FURTHEST, SHORTEST = 6, -24  # exponents of two: the step sizes that are tried
CLOSE = 1e-3  # nats that a further natural-gradient step would gain; the draws don't resolve less
FLAT_ENOUGH, ROUND_ENOUGH = 0.01, 0.1  # remaining gradient (nats) and relative curvature error at the best normal
THERE = 1e-7  # nats that a further Newton step would gain, to stop there
SMALL_RISE = (
    30.0  # nats; larger rises are compared with the density around them: the noise where a scale collapses is smaller
)
ON_THE_WAY, BESIDE = 20, 1e-5  # points along such a step, and the distance of their neighbours as a fraction of it
PART = 0.1  # fraction of the rise: no smooth density bends by as much over such a distance
FAR = 300.0  # distance in sds along an axis
FLAT = 1e-10  # fraction of the largest curvature in scaled coordinates below which curvature counts as zero


Form = Callable[[Tensor], Tensor]
"""Function from a precision (D, D) to the part that a kind of normal can represent."""


def whole(precision: Tensor) -> Tensor:
    """The whole precision: full-rank normals."""
    return precision


def each_alone(precision: Tensor) -> Tensor:
    """The diagonal of the precision: independent normals."""
    return precision.diagonal().diag()


@dataclass(frozen=True)
class Place:
    """A normal approximation of a posterior, in unconstrained space.

    Attributes:
        centre: (D,).
        root: (D, D) lower triangle L; L Lᵀ is the covariance.
        elbo: Its ELBO in nats.
        gain: Nats that a Newton step from the centre would gain; far above zero if the centre is not a mode.
        settled: Whether it is the normal with the best ELBO, as far as the draws of the search can tell.
        iterations: Number of iterations.
    """

    centre: Tensor
    root: Tensor
    elbo: float
    gain: float
    settled: bool = False
    iterations: int = 0


@dataclass(frozen=True)
class Places:
    """Result of a search.

    Attributes:
        best: The normal with the best ELBO.
        others: Normals from other starts, further from the best than their widths, with an ELBO not far below.
        failed: Number of starts that led to no normal.
        endless: Numbers along which the density does not decay far from the best place: the posterior is improper, or almost.
        how: Name of the method that found the best one; empty if it was given.
        seconds: Time of the search.
    """

    best: Place
    others: tuple[Place, ...]
    failed: int
    endless: tuple[str, ...] = ()
    how: str = ""
    seconds: float = 0.0


def starts_of(density: LogDensity, count: int, seed: int) -> Tensor:
    """(count, D) starts: that of the prototype, and random ones within (−2, 2) of it, as in Stan."""
    generator = rng.stream(seed, 1)
    shares = torch.rand(count - 1, density.size, generator=generator, dtype=torch.float64, device="cpu")
    away = 4 * shares.to(density.start) - 2
    return torch.cat([density.start[None], density.start + away])


def noise_of(density: LogDensity, draws: int, seed: int) -> Tensor:
    """(draws, D) standard normal, in antithetic pairs."""
    half = torch.randn(draws // 2, density.size, generator=rng.stream(seed, 2), dtype=torch.float64, device="cpu").to(
        density.start
    )
    return torch.cat([half, -half])


def path(density: LogDensity, starts: Tensor) -> list[Tensor]:
    """The points (places, D) that Newton's method passes on its way up from each of (S, D) starts, the start first.

    The step is |H|⁻¹ g, which does not depend on units, times the best of many factors.

    References:
        Dauphin et al. 2014, Identifying and attacking the saddle point problem, arXiv:1406.2572, for the absolute value.
    """
    here, height = starts.clone(), density.many(starts)
    ways = [[each] for each in starts]
    moving = height.isfinite()
    factors = 2.0 ** torch.arange(FURTHEST, SHORTEST - 1, -1, dtype=torch.float64, device=starts.device)
    for _ in range(ITERATIONS):
        which = moving.nonzero()[:, 0]
        if not len(which):
            break
        gradient, hessian = density.gradients(here[which]), density.hessians(here[which])
        for number, g, h in zip(which.tolist(), gradient, hessian, strict=True):
            root = inverse_root(-h) if g.isfinite().all() and h.isfinite().all() else None
            if root is None or (gain := float((root.T @ g).square().sum()) / 2) < THERE:
                moving[number] = False
                continue
            ahead = here[number] + factors[:, None] * (root @ (root.T @ g))
            rises = density.many(ahead) - height[number]
            best = int(rises.argmax())
            while rises[best] > 0 and not is_real(density, here[number], ahead[best], rises[best]):
                rises[best] = -torch.inf
                best = int(rises.argmax())
            if not float(rises[best]) > THERE * min(1.0, gain):
                moving[number] = False
                continue
            here[number], height[number] = ahead[best], height[number] + rises[best]
            ways[number].append(ahead[best])
    return [torch.stack(way) for way in ways]


def is_real(density: LogDensity, here: Tensor, there: Tensor, rise: Tensor) -> bool:
    """Whether a rise between two points is more than rounding error. Far out, where log Γ(x + y) − log Γ(x) has lost all digits, a density may seem thousands of nats higher than it is
    anywhere, but between the two points it jumps by as much."""
    if rise <= SMALL_RISE:
        return True
    parts = torch.arange(1, ON_THE_WAY + 1, dtype=here.dtype, device=here.device) / ON_THE_WAY
    parts = torch.cat([parts - BESIDE, parts, parts + BESIDE])
    before, on, after = density.many(here + parts[:, None] * (there - here)).reshape(3, -1)
    bend = (before + after) / 2 - on
    return not bool((bend[bend.isfinite()].abs() > PART * rise).any())


def along(density: LogDensity, way: Tensor, noise: Tensor, form: Form) -> list[Place]:
    """The normals at some points of a path, including its end.

    Args:
        way: (places, D) points.
        noise: (S, D) standard normal.
        form: The kind of normal.
    """
    back = sorted({len(way) - 1 - int(round(k)) for k in np.geomspace(1, len(way), LOOKS) - 1})
    centres = way[back]
    values, gradients, hessians = density.many(centres), density.gradients(centres), -density.hessians(centres)
    found = []
    for step, centre, value, gradient, hessian in zip(back, centres, values, gradients, hessians, strict=True):
        if (
            value.isfinite()
            and gradient.isfinite().all()
            and hessian.isfinite().all()
            and (root := inverse_root(form(hessian))) is not None
        ):
            gain = float((root.T @ gradient).square().sum()) / 2
            found.append(Place(centre, root, elbo_of(density, centre, root, noise), gain, iterations=step))
    return found


def improved(density: LogDensity, place: Place, noise: Tensor, form: Form) -> Place:
    """The normal with the best ELBO reached from a start by natural-gradient steps with fixed draws.

    m ← m + t S E[g], S⁻¹ ← (1 − t) S⁻¹ + t E[−H], with means over draws, and the factor t, out of many, that gives the best ELBO.

    Args:
        noise: (S, D) standard normal, in antithetic pairs.
        form: The kind of normal.

    References:
        Opper & Archambeau 2009, The variational Gaussian approximation revisited; Khan & Rue 2023, The Bayesian learning rule, arXiv:2107.04562.
    """
    place = replace(place, elbo=elbo_of(density, place.centre, place.root, noise))
    for _ in range(ITERATIONS):
        draws = place.centre + noise @ place.root.T
        gradient, bend = density.gradients(draws).mean(0), form(-density.hessians(draws).mean(0))
        if not (gradient.isfinite().all() and bend.isfinite().all()):
            break
        precision = torch.cholesky_inverse(place.root)
        best = place
        for factor in (1.0, 0.5, 0.25, 0.1, 0.03):
            root = inverse_root((1 - factor) * precision + factor * bend)
            if root is None:
                continue
            centre = place.centre + factor * (root @ (root.T @ gradient))
            tried = Place(
                centre, root, elbo_of(density, centre, root, noise), place.gain, iterations=place.iterations + 1
            )
            if tried.elbo > best.elbo:
                best = tried
                break
        if best.elbo - place.elbo < CLOSE:
            off = place.root.T @ bend @ place.root - torch.eye(density.size, dtype=torch.float64, device=bend.device)
            slope = float((place.root.T @ gradient).square().sum()) / 2
            return replace(place, settled=slope < FLAT_ENOUGH and float(off.abs().max()) < ROUND_ENOUGH)
        place = best
    return place


def elbo_of(density: LogDensity, centre: Tensor, root: Tensor, noise: Tensor) -> float:
    """ELBO in nats of the normal with this centre and root."""
    entropy = root.diagonal().log().sum() + density.size * (0.5 + 0.5 * math.log(2 * math.pi))
    return float(density.many(centre + noise @ root.T).mean() + entropy)


def inverse_root(hessian: Tensor) -> Tensor | None:
    """Lower triangle L with L Lᵀ = |H|⁻¹, for any units; None if there is no curvature at all."""
    width = _widths(hessian)
    values, vectors = torch.linalg.eigh(hessian * width * width[:, None])
    size = values.abs()
    if not float(size.max()) > 0:
        return None
    root = width[:, None] * vectors * size.clamp_min(FLAT * float(size.max())).rsqrt()
    # QR of the transpose: Rᵀ R is the same product, without squaring the condition number.
    lower = torch.linalg.qr(root.T).R.T
    return lower * lower.diagonal().sign()


def _widths(hessian: Tensor) -> Tensor:
    """(D,) factors that scale the curvature of each number to one; 1 where there is none."""
    bend = hessian.diagonal().abs()
    return torch.where((bend > 0) & bend.isfinite(), bend, 1.0).rsqrt()


def endless(density: LogDensity, place: Place) -> tuple[str, ...]:
    """Numbers along which the density decays no faster than 1/t far from a point, so that its integral diverges."""
    root = place.root if place.root.dim() == 2 else place.root.diag()
    width = root.norm(dim=1)
    axes, lengths, _ = torch.linalg.svd(root / width[:, None])
    rays = torch.cat([axes.T, -axes.T]) * torch.cat([lengths, lengths])[:, None] * width
    # The way of the search, unless it began at its end; at least one sd long.
    way = place.centre - density.start
    length = float(torch.linalg.solve_triangular(root, way[:, None], upper=False).norm())
    rays = torch.cat([rays, way[None] / min(length, 1.0)]) if length > 0 else rays
    far_away = density.representable(10 * FAR * rays)
    near, far = (density.many(place.centre + ray) for ray in (far_away / 10, far_away))
    slow = far.isfinite() & (far > near - math.log(10.0))
    return tuple(dict.fromkeys(density.name_of(int((ray / width).abs().argmax())) for ray in rays[slow]))


def apart(one: Place, other: Place) -> bool:
    """Whether the distance between two normals is larger than both of their widths."""
    way = (one.centre - other.centre)[:, None]
    far = [float(torch.linalg.solve_triangular(p.root, way, upper=False).square().sum()) for p in (one, other)]
    return min(far) > 4 * len(one.centre) + 12
