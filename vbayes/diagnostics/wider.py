"""A second check of a guide whose heaviest weights come from rare draws in the tails: does it miss mass there?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    ComposeTransform,
    Independent,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
    biject_to,
)

from .. import rng
from ..data.dataset import Batch
from ..guides import Whitened
from ..guides.whitened import density_of
from ..inference.psis import smoothed
from ..pair.pair import Pair
from ..summaries.card import rounded
from ..validation import validation
from .moved import SURE

DRAWS = 20_000  # draws of q, and as many of the wider distributions
FREEDOM = 4.0  # degrees of freedom of the t distribution: heavy tails with a finite variance
HEAVY = 3.0  # ratio of posterior to q beyond which q misses something
# With a second mode seven sds away in one of thirty directions, of which q reaches only the edge, k̂ was .4 to .8 under r, with weights up to 27 or more; t was no denser than q there.
FINITE_K, MOST, HALF = 0.5, 10.0, 0.5
TOLERATED = (
    0.1  # tolerated error of a mean in sds, or relative error of an sd; and tolerated fraction of misplaced mass
)


@dataclass(frozen=True)
class Wider:
    """Weights of draws from a wider distribution r, a mixture of q and distributions with the tails of a t.

    Attributes:
        k_hat, effective: k̂ and effective number of its weights p/r.
        draws: Number of draws, K.
        heaviest: The largest of these weights, relative to the mean weight.
        reached: Smallest fraction of r that is not from q, where the posterior has three times the density of q: whether r is wider there.
        misplaced: The fraction of the posterior's mass that q puts elsewhere, ½ ∫ |p − q|.
        moved: The largest distance of a posterior mean from q's, in sds of the narrower of the two, or the largest relative difference of sds if that is more; including noise.
    """

    k_hat: float
    effective: float
    draws: int
    heaviest: float
    reached: float
    misplaced: float
    moved: float

    @property
    def clears(self) -> bool:
        """Whether q may be used as it is: r has no heavy weights, has reached the region of q's heavy weights, and has found little mass there."""
        sure = self.k_hat < FINITE_K and self.heaviest < MOST and self.reached > HALF
        return sure and self.misplaced < TOLERATED and self.moved < TOLERATED

    def verdict(self) -> str:
        """The result in one sentence."""
        return (
            f"The large k̂ comes from rare draws in the tails: a wider distribution, which draws there more often, finds only {rounded(100 * self.misplaced, 2)} % of the mass misplaced by q, "
            f"and no mean or sd off by more than {rounded(self.moved, 2)} sd."
        )


def wider_look(pair: Pair, batch: Batch, seed: int) -> Wider | None:
    """Checks a guide with a wider distribution; None for guides that are not chosen by name, whose base noise is not known.

    A draw of q in its tail with a large weight suggests that there may be more posterior mass there, but q alone can't tell how much. With r = ½ q + ¼ t + ¼ t′, such regions are drawn often, and no
    weight p/r exceeds twice p/q. Here t is q with its normal base noise replaced by that of a multivariate t distribution with 4 degrees of freedom, and t′ is such a t distribution
    with the mean and the covariance of q. Means under p and under q are computed from the same draws, with weights p/r and q/r.

    Args:
        pair: An initialised pair.
        batch: The rows, not rescaled to the size of a larger data set.
        seed: Seed for the draws.

    References:
        Hesterberg 1995, Weighted average importance sampling and defensive mixture distributions, doi:10.1080/00401706.1995.10484303.
    """
    guide = pair.guide
    if not isinstance(guide, Whitened):
        return None
    with pair.scope(), torch.no_grad(), rng.seeded(seed), validation(False):
        q: Any = guide.get_posterior()
        made = _maps(q)
        if made is None:
            return None
        there, back = made
        like = torch.empty(DRAWS, len(guide.centre), dtype=guide.centre.dtype, device=guide.centre.device)
        size = like.shape[1]
        own = there(torch.randn_like(like))
        far = there(_drawn_of_t(like[::2]))
        mean = own.double().mean(0)
        root, wrong = torch.linalg.cholesky_ex(own.double().T.cov().reshape(size, size))
        if int(wrong):
            return None
        around = (mean + _drawn_of_t(like[1::2]).double() @ root.T).to(own)
        numbers = torch.cat([own, far, around])
        log_q = q.log_prob(numbers).double()
        density = density_of(guide._plain[0], batch.args, {})
        log_p = density.many(numbers.double())
        square = back(numbers).double().square().sum(1)
        log_far = log_q + _log_t(square, size) + 0.5 * square + size / 2 * math.log(2 * math.pi)
        off = torch.linalg.solve_triangular(root, (numbers.double() - mean).T, upper=False)
        log_around = _log_t(off.square().sum(0), size) - root.diagonal().log().sum()
        parts = torch.stack([log_q + math.log(0.5), log_far + math.log(0.25), log_around + math.log(0.25)])
        log_r = parts.nan_to_num(nan=-torch.inf).logsumexp(0)
        values = {
            name: biject_to(density.sites[name]["fn"].support)(part)
            for name, part in density.values(numbers.double()).items()
        }
        of_q = (log_q - log_r).exp().nan_to_num(nan=0.0)
    return _told(log_p - log_r, of_q, log_p - log_q, values)


def _told(log_w: Tensor, of_q: Tensor, log_p_to_q: Tensor, values: dict[str, Tensor]) -> Wider:
    """The result, from log p/r, q/r and log p/q at draws of r."""
    made = smoothed(log_w)
    evidence = log_w.logsumexp(0) - math.log(len(log_w))
    missed = log_p_to_q - evidence > math.log(HEAVY)
    reached = 1 - 0.5 * float(of_q[missed].max()) if bool(missed.any()) else 1.0
    of_p, of_q = made.log_w.exp(), of_q / of_q.sum()
    noise = SURE * max(float(made.effective), 1.0) ** -0.5
    worst = 0.0
    for value in values.values():
        flat = value.double().reshape(len(of_p), -1)
        (mean_p, sd_p), (mean_q, sd_q) = (_moments(flat, weight) for weight in (of_p, of_q))
        off = (mean_p - mean_q).abs() / torch.minimum(sd_p, sd_q)
        spread = (sd_p / sd_q - 1).abs()
        worst = max(worst, float(torch.maximum(off, spread).nan_to_num(nan=torch.inf).max()))
    misplaced = float((of_p - of_q).abs().sum()) / 2
    heaviest = float((log_w.max() - evidence).exp())
    return Wider(float(made.k_hat), float(made.effective), len(log_w), heaviest, reached, misplaced, worst + noise)


def _moments(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    mean = weight @ values
    return mean, (weight @ (values - mean).square()).sqrt()


def _log_t(square: Tensor, size: int) -> Tensor:
    """Log density of a multivariate t of unit scale, as a function of the squared distance from its centre."""
    half = (FREEDOM + size) / 2
    constant = math.lgamma(half) - math.lgamma(FREEDOM / 2) - size / 2 * math.log(FREEDOM * math.pi)
    return constant - half * (1 + square / FREEDOM).log()


def _drawn_of_t(like: Tensor) -> Tensor:
    """(S, D) draws of a multivariate t of unit scale."""
    # χ² with four degrees of freedom is twice the sum of two exponentials.
    chi = -2 * torch.rand(len(like), 2, dtype=like.dtype, device=like.device).clamp_min(1e-30).log().sum(1)
    return torch.randn_like(like) * (FREEDOM / chi).sqrt()[:, None]


def _maps(q: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] | None:
    """Maps from (S, D) standard normal noise to draws of a guide, and back; None for other kinds of guides."""
    if isinstance(q, MultivariateNormal):
        root: Tensor = q.scale_tril
        return (
            lambda noise: q.loc + noise @ root.mT,
            lambda numbers: torch.linalg.solve_triangular(root, (numbers - q.loc).mT, upper=False).mT,
        )
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        return lambda noise: q.mean + noise * q.stddev, lambda numbers: (numbers - q.mean) / q.stddev
    if isinstance(q, TransformedDistribution):
        whole = ComposeTransform(q.transforms)
        return whole, whole.inv
    return None
