"""Covariances that mean field leaves out, from how its means respond to small changes of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from pyro.infer.autoguide import AutoContinuous, AutoNormal
from torch import Tensor
from torch.distributions import Independent, Normal

from .. import rng
from ..arguments.takes import takes
from ..errors import BadInput, Unsuitable
from ..guides.curvature import inverse_root, noise_of
from ..guides.log_density import LogDensity
from ..guides.starts import BENT
from ..guides.whitened import density_of
from ..pair.paired import Model, paired
from ..pair.problem import Problem
from ..summaries.card import Card, Displayable, rounded
from ..validation import validation

DRAWS = 256
NUMBERS = 2**24  # of second derivatives held at once
STEPS, HALVINGS = 50, 20  # of Newton's method
THERE = 1e-9  # nats that a further step would gain


@dataclass(frozen=True, repr=False)
class LinearResponse(Displayable):
    """Result of `vb.linear_response`: means and covariances of the latents in unconstrained space (the logarithm of a scale), one site after the other; on the CPU.

    Attributes:
        names: (D,) such as "theta[3]".
        mean: (D,) of the mean-field normal.
        covariance: (D, D) estimated by linear response.
        mean_field_sd: (D,) standard deviations of the mean-field normal.
        draws: Number of draws, S.
        pair, data: Names of the pair and of the data.
    """

    names: tuple[str, ...]
    mean: Tensor
    covariance: Tensor
    mean_field_sd: Tensor
    draws: int
    pair: str
    data: str

    @property
    def sd(self) -> Tensor:
        """(D,) standard deviations by linear response."""
        return self.covariance.diagonal().sqrt()

    @property
    def correlation(self) -> Tensor:
        """(D, D) correlation matrix by linear response."""
        return self.covariance / self.sd / self.sd[:, None]

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each number: name, mean, sd, mean_field_sd, and the ratio of the two."""
        columns = {"mean": self.mean, "sd": self.sd, "mean_field_sd": self.mean_field_sd}
        table = pd.DataFrame({"name": self.names, **{name: values.cpu().numpy() for name, values in columns.items()}})
        return table.assign(ratio=table.sd / table.mean_field_sd)

    def card(self) -> Card:
        """How much wider than mean field the result is, and where."""
        ratio = self.sd / self.mean_field_sd
        worst = int(ratio.argmax())
        across = self.correlation.tril(-1).abs()
        rows = [
            ("numbers", f"{len(self.names):,}, unconstrained"),
            ("wider", f"than mean field by a factor of {rounded(float(ratio.max()), 3)} at most, {self.names[worst]}"),
        ]
        if len(self.names) > 1:
            one, two = divmod(int(across.argmax()), len(self.names))
            value = rounded(float(self.correlation[one, two]), 2)
            rows.append(("correlation", f"{value}, of {self.names[two]} and {self.names[one]}"))
        return Card(f"Linear response: {self.pair} on {self.data}", tuple(rows))


@takes()
def linear_response(
    pair: Model, data: Any = None, *, draws: int = DRAWS, seed: int | None = None, device: str = "auto"
) -> LinearResponse:
    """Estimates the covariances of the latents of a mean-field fit by linear response; exact if the posterior is normal.

    Add t · u to log p, where u are the unconstrained latents: the derivative of the posterior mean of u with respect to t is the posterior covariance. The derivative of the mean-field mean, at the optimum
    of the ELBO over fixed draws, is Σ, the upper left block of H⁻¹, where H is the Hessian of −ELBO in the means and log standard deviations. Where the mean-field means are right, Σ is
    right to first order; `vb.diagnose` tells whether they are.

    Args:
        pair: A pair whose guide is a normal of independent numbers: guide="diagonal", which a model alone gets, `AutoNormal` or `AutoDiagonalNormal`; a fit brings its data. Its ELBO is
            first optimised further.
        data: As for `fit`.
        draws: S, the number of draws, which are held fixed.
        seed: Seed for the draws.
        device: As for `fit`.

    Raises:
        BadInput: Fewer than two draws.
        Unsuitable: Another kind of guide, more than 300 numbers, or an ELBO that has no optimum nearby.

    References:
        Giordano, Broderick & Jordan 2018, Covariances, robustness, and variational Bayes, arXiv:1709.02536, section 3.
        Giordano, Ingram & Broderick 2023, Black box variational inference with a deterministic objective, arXiv:2304.05527, section 4.

    Examples:
        >>> fit = vb.fit(model, data, guide="diagonal")
        >>> vb.linear_response(fit).to_dataframe()
    """
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 2:
        raise BadInput(f"draws={draws!r}. Wanted: a whole number, at least 2.")
    seed, problem = rng.or_default(seed), Problem.of(paired(pair, otherwise="diagonal"), data, device=device)
    own = problem.pair
    if not is_mean_field(own.guide):
        raise Unsuitable(
            f"The guide of pair {own.name!r} is not a normal of independent numbers over all latents. Wanted: guide='diagonal', AutoNormal or AutoDiagonalNormal; other guides have "
            "covariances of their own."
        )
    with own.look(), torch.no_grad(), validation(False):
        density = density_of(own.model, problem.whole.args, {})
        if density.size > BENT:
            raise Unsuitable(
                f"The latents have {density.size:,} unconstrained numbers; linear response takes at most {BENT}. Wanted: a smaller model, or guide='low_rank'."
            )
        loc, scale = _numbers(own.guide, density)
        noise = _noise(density, draws, seed)
        loc, scale, bend = _optimum(density, loc, scale, noise)
    size = density.size
    root, wrong = torch.linalg.cholesky_ex(bend)
    if int(wrong):
        raise Unsuitable(
            f"The ELBO of pair {own.name!r} has no optimum near its guide. Wanted: a fit that has converged, or another kind of guide if the posterior is improper."
        )
    covariance = torch.cholesky_inverse(root)[:size, :size].cpu()
    names = tuple(density.name_of(place) for place in range(size))
    return LinearResponse(
        names, loc.cpu(), covariance, scale.cpu(), len(noise), own.name, problem.data.name
    )  # fmt: skip


def is_mean_field(guide: Any) -> bool:
    """Whether a guide is a normal of independent unconstrained numbers over all latents."""
    if isinstance(guide, AutoContinuous):
        try:
            q: Any = guide.get_posterior()
        except Exception:  # of a guide that has not been called
            return False
        return isinstance(q, Independent) and isinstance(q.base_dist, Normal)
    return type(guide) is AutoNormal


def _numbers(guide: Any, density: LogDensity) -> tuple[Tensor, Tensor]:
    """(D,) means and sds, in the order of the density's numbers."""
    if isinstance(guide, AutoContinuous):
        q: Any = guide.get_posterior()
        parts = [{site["name"]: part for site, part in guide._unpack_latent(numbers)} for numbers in (q.mean, q.stddev)]
    else:
        both = {name: guide._get_loc_and_scale(name) for name in density.sites}
        parts = [{name: pair[which] for name, pair in both.items()} for which in (0, 1)]
    return tuple(torch.cat([part[name].reshape(-1) for name in density.sites]).double() for part in parts)  # type: ignore[return-value]


def _noise(density: LogDensity, draws: int, seed: int) -> Tensor:
    """(S, D) draws with exactly the first two moments of a standard normal, so that a normal posterior is recovered without error; with few draws, only its means and variances are exact."""
    noise = noise_of(density, 2 * ((draws + 1) // 2), seed)
    if len(noise) < 2 * density.size:
        return noise / noise.square().mean(0).sqrt()
    root = torch.linalg.cholesky(noise.T @ noise / len(noise))
    return torch.linalg.solve_triangular(root, noise.T, upper=False).T


def _optimum(density: LogDensity, loc: Tensor, scale: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means and sds that maximise the ELBO over some draws, and the Hessian of −ELBO there, (2D, 2D), in the means and log sds."""
    size = len(loc)
    here = torch.cat([loc, scale.log()])

    def elbo(at: Tensor) -> float:
        return float(density.many(at[:size] + at[size:].exp() * noise).mean() + at[size:].sum())

    height = elbo(here)
    for _ in range(STEPS):
        gradient, bend = _derivatives(density, here, noise)
        root = inverse_root(bend) if gradient.isfinite().all() and bend.isfinite().all() else None
        if root is None:
            break
        step = root @ (root.T @ gradient)
        gain = float(step @ gradient) / 2
        if gain < THERE:
            break
        ahead = next(
            ((h, at) for k in range(HALVINGS) if (h := elbo(at := here + 0.5**k * step)) > height), None
        )  # fmt: skip
        if ahead is None:  # no more digits
            break
        height, here = ahead
    _, bend = _derivatives(density, here, noise)
    return here[:size], here[size:].exp(), bend


def _derivatives(density: LogDensity, here: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """(2D,) gradient of the ELBO, and (2D, 2D) Hessian of −ELBO."""
    size = len(here) // 2
    gradient, bend = torch.zeros_like(here), here.new_zeros(2 * size, 2 * size)
    for some in noise.split(max(1, NUMBERS // size**2)):
        away = here[size:].exp() * some
        first, second = density.gradients(here[:size] + away), -density.hessians(here[:size] + away)
        by_scale = second * away[:, None, :]
        corner = away[:, :, None] * by_scale - (first * away).diag_embed()
        gradient += torch.cat([first.sum(0), (first * away).sum(0)])
        across = by_scale.sum(0)
        bend += torch.cat([torch.cat([second.sum(0), across], 1), torch.cat([across.T, corner.sum(0)], 1)])
    gradient, bend = gradient / len(noise), bend / len(noise)
    gradient[size:] += 1.0  # of the entropy
    return gradient, bend
