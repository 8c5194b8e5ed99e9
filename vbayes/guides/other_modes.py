"""A cheap search from many more starts for modes that the first search has missed, if there are few dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import rng
from .curvature import FURTHEST, SHORTEST, THERE, Form, Place, along, apart, improved, inverse_root, is_real
from .log_density import LogDensity

FEW = 20  # dimensions up to which random starts come near most modes
# Starts: draws from the prior; and within (−4, 4) in unconstrained space, twice as far as Stan's, each with its mirror image.
FROM_PRIOR, WIDE = 8, 4
NEAR = 4.0  # squared sds per dimension: a path that comes this close to the best place is taken to end there
LOOKED = 25  # Newton steps; a longer climb is along a ridge
KEPT = 3  # modes
A_MODE = 1e-4  # nats that a Newton step would gain, at most
LITTLE = 5.0  # nats; an ELBO further below the best means less than a hundredth of the mass


def other_modes(density: LogDensity, best: Place, noise: Tensor, form: Form, seed: int) -> tuple[Place, ...]:
    """Normals at modes separate from the best place, of comparable mass. Only modes count, so that a long tail is not taken for a mode.

    Args:
        noise: (S, D) standard normal, in antithetic pairs.
        form: The kind of normal.
    """
    if density.size > FEW or not density.captured:
        return ()
    found: list[Place] = []
    for end in _ends(density, _starts(density, seed), best):
        for place in along(density, end[None], noise, form):
            if place.gain < A_MODE and all(apart(place, other) for other in (best, *found)):
                found.append(place)
    better = [improved(density, place, noise, form) for place in sorted(found, key=lambda place: -place.elbo)[:KEPT]]
    kept: list[Place] = []
    for place in better:
        if place.elbo > best.elbo - LITTLE and all(apart(place, other) for other in (best, *kept)):
            kept.append(place)
    return tuple(kept)


def _starts(density: LogDensity, seed: int) -> Tensor:
    """(S, D) starts."""
    shares = torch.rand(WIDE // 2, density.size, generator=rng.stream(seed, 3), dtype=torch.float64, device="cpu")
    away = (8 * shares - 4).to(density.start)
    drawn = [density.of_prior(one) for one in rng.children(rng.child(seed, 4), FROM_PRIOR)]
    return torch.cat([density.start + away, density.start - away, *(one[None] for one in drawn if one is not None)])


def _ends(density: LogDensity, here: Tensor, best: Place) -> list[Tensor]:
    """Where Newton's method, as in `curvature.path`, leads from (S, D) starts, without those that come near the best place or keep climbing. The steps of all starts are evaluated together."""
    height = density.many(here)
    here, height = here[height.isfinite()], height[height.isfinite()]
    factors = 2.0 ** torch.arange(FURTHEST, SHORTEST - 1, -1, dtype=torch.float64, device=here.device)
    ends: list[Tensor] = []
    for _ in range(LOOKED):
        far = torch.linalg.solve_triangular(best.root, (here - best.centre).T, upper=False).square().sum(0)
        here, height = here[far > NEAR * density.size], height[far > NEAR * density.size]
        if not len(here):
            break
        ways, gains, keep = [], [], []
        for number, (g, h) in enumerate(zip(density.gradients(here), density.hessians(here), strict=True)):
            root = inverse_root(-h) if g.isfinite().all() and h.isfinite().all() else None
            if root is None:
                continue
            if (gain := float((root.T @ g).square().sum()) / 2) < THERE:
                ends.append(here[number])
                continue
            ways.append(root @ (root.T @ g))
            gains.append(min(1.0, gain))
            keep.append(number)
        if not keep:
            break
        here, height = here[keep], height[keep]
        ahead = here + factors[:, None, None] * torch.stack(ways)
        heights, which = density.many(ahead.flatten(0, 1)).reshape(len(factors), -1).max(0)
        rises = heights - height > THERE * torch.tensor(gains, dtype=torch.float64, device=here.device)
        ends += list(here[~rises])
        for number in rises.nonzero()[
            :, 0
        ].tolist():  # where a climb ends in rounding error, as where a scale collapses, is no mode
            way = here[number], ahead[which[number], number]
            rises[number] = is_real(density, *way, heights[number] - height[number])
        here, height = ahead[which, torch.arange(len(here), device=here.device)][rises], heights[rises]
    return ends
