"""Maximum likelihood of factor analysis by expectation maximisation.

References:
    Rubin & Thayer 1982, EM algorithms for ML factor analysis, doi:10.1007/BF02293851.
    Liu, Rubin & Wu 1998, Parameter expansion to accelerate EM: the PX-EM algorithm, doi:10.1093/biomet/85.4.755.
    Bishop 2006, Pattern recognition and machine learning, section 12.2.4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import BadInput
from .degenerate import unchanging
from .linear_gaussian import LinearGaussian
from .probabilistic_pca import check_data


def maximum_likelihood(x: Tensor, latent: int, *, tolerance: float = 1e-9, most_rounds: int = 20_000) -> LinearGaussian:
    """Fits the model z ~ N(0, I), x ~ N(W z + b, diag ψ) by maximum likelihood, with EM from the principal axes.

    Each round computes the posterior of z under the current model, and the optimal W, ψ and covariance of z given it; that covariance is absorbed
    into W (parameter expansion, which is many times faster). The likelihood never decreases.

    Args:
        x: (N, D) data.
        latent: Number of latents, L.
        tolerance: Remaining gain in nats per datum, predicted from the last gains, at which to stop.
        most_rounds: Maximum number of rounds.

    Returns:
        The model, with diagonal noise (D,).

    Raises:
        BadInput: L is not in 1 ... D − 1, a feature is constant (the likelihood is then unbounded), the noise of a feature goes to 0
            (a Heywood case), or there were too few rounds.
    """
    n, features = check_data(x, latent)
    offset = x.mean(0)
    centred = x - offset
    variances = centred.square().mean(0)
    if still := unchanging(x).nonzero().flatten().tolist():
        raise BadInput(
            f"Features {still} are constant, so their noise goes to 0 and the likelihood is unbounded. Wanted: data without them."
        )
    # In units of each feature's standard deviation, which only rescales the numbers.
    unit = variances.sqrt()
    scatter = (centred / unit).T @ (centred / unit) / n
    eigenvalues, axes = torch.linalg.eigh(scatter)
    weight = axes[:, -latent:] * (0.5 * eigenvalues[-latent:]).clamp(min=0).sqrt()
    noise = (scatter.diagonal() - weight.square().sum(1)).clamp(min=0.05)
    eye = torch.eye(latent, dtype=x.dtype, device=x.device)

    before, gained = -torch.inf, torch.inf
    for _ in range(most_rounds):
        # E: the posterior's covariance, its gain z = B x, and the second moments that follow, Σ zxᵀ/N and Σ zzᵀ/N.
        over_noise = weight / noise[:, None]
        precision = eye + weight.T @ over_noise
        gain = torch.linalg.solve(precision, over_noise.T)
        cross = gain @ scatter
        second = torch.linalg.inv(precision) + cross @ gain.T
        # ln p(x) per datum up to a constant, for the model at the start of this round: ln det, and tr(C⁻¹ scatter).
        log_det = noise.log().sum() + torch.logdet(precision)
        squares = (scatter.diagonal() / noise).sum() - (over_noise * cross.T).sum()
        now = float(-0.5 * (log_det + squares))
        gain_before, gained = gained, now - before
        # The rest of a geometric series, gained · r / (1 − r) with r = gained / gain_before; at the latest, rounding ends it.
        if gained <= 0 or gain_before < torch.inf and gained**2 < tolerance * (gain_before - gained):
            return LinearGaussian(x.new_zeros(latent), eye, weight * unit[:, None], offset, noise * variances)
        before = now
        # M
        weight = torch.linalg.solve(second, cross).T
        noise = scatter.diagonal() - (weight * cross.T).sum(1)
        weight = weight @ torch.linalg.cholesky(second)
        if not (noise > features * torch.finfo(x.dtype).eps).all():
            raise BadInput(
                f"The noise of feature {int(noise.argmin())} goes to 0: {latent} latents explain it completely (a Heywood case). Wanted: fewer latents, "
                "or data without that feature."
            )
    raise BadInput(
        f"{most_rounds} rounds of EM were not enough to come within {tolerance:g} nats per datum. The smallest noise is {float(noise.min()):.2g} of the "
        f"variance of feature {int(noise.argmin())}; if it goes to 0 (a Heywood case), EM does not converge. Wanted: fewer latents, a larger "
        "tolerance, more rounds, or data in double precision."
    )
