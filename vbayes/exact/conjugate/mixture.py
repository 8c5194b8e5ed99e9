"""A Bayesian mixture of Gaussians: weights, means and precisions have priors, and q factorises into assignments and parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from ...arguments.names import SIZE
from ...arguments.real import POSITIVE
from ...arguments.takes import takes
from ...errors import BadInput
from ..degenerate import positive_definite, unchanging


class Factors(NamedTuple):
    """q(z) q(π) Π_k q(μ_k, Λ_k) for N data of D features in C components.

    `responsibilities` (N, C) = q(z_n = k); q(π) = Dirichlet(`concentration` (C,)); q(μ, Λ) = N(μ; `location` (C, D), (`strength` (C,) Λ)⁻¹)
    Wishart(Λ; `scale` (C, D, D), `freedom` (C,)).
    """

    responsibilities: Tensor
    concentration: Tensor
    location: Tensor
    strength: Tensor
    scale: Tensor
    freedom: Tensor


@takes(components=SIZE, concentration=POSITIVE, strength=POSITIVE)
@dataclass(frozen=True)
class GaussianMixture:
    """π ~ Dirichlet(c, …, c), Λ_k ~ Wishart(W₀, ν₀), μ_k ~ N(m₀, (β₀ Λ_k)⁻¹), z_n ~ π, x_n ~ N(μ_z, Λ_z⁻¹).

    W₀ and m₀ are such that a component's covariance is, a priori, that of the data, E[Λ]⁻¹ = cov(x), around their mean.

    Attributes:
        x: (N, D) data.
        components: C, the maximum number of components; a small `concentration` empties those that aren't needed.
        concentration: c.
        strength: β₀.
        freedom: ν₀, above D − 1; D if None.

    Raises:
        BadInput: There are too few data or components, the covariance of the data is singular, or the prior is not valid.

    References:
        Bishop 2006, Pattern recognition and machine learning, section 10.2.
    """

    x: Tensor
    components: int
    concentration: float = 1.0
    strength: float = 1.0
    freedom: float | None = None
    prior: Factors = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.x.dim() != 2 or not self.x.shape[1] or len(self.x) < max(2, self.components) or self.components < 1:
            raise BadInput(
                f"x has shape {tuple(self.x.shape)}, for {self.components} components. Wanted: (N, D), with at least one row per component."
            )
        features = self.x.shape[1]
        freedom = float(features) if self.freedom is None else self.freedom
        if min(self.concentration, self.strength, freedom - features + 1) <= 0:
            raise BadInput(
                f"concentration={self.concentration}, strength={self.strength}, freedom={freedom} are not a valid prior. "
                f"Wanted: numbers above 0, and a freedom above {features - 1}."
            )
        covariance = torch.atleast_2d(torch.cov(self.x.T))
        if unchanging(self.x).any() or not positive_definite(covariance):
            raise BadInput("The covariance of x is singular. Leave out features that are determined by the others.")
        one = self.x.new_ones(self.components)
        scale = torch.linalg.inv(covariance * freedom).expand(self.components, -1, -1)
        location = self.x.mean(0).expand(self.components, -1)
        prior = Factors(
            self.x.new_zeros(0), self.concentration * one, location, self.strength * one, scale, freedom * one
        )
        object.__setattr__(self, "prior", prior)

    def start(self, seed: int) -> Factors:
        """From the clusters of k-means."""
        labels = KMeans(self.components, n_init=1, random_state=seed).fit(self.x.cpu().numpy()).labels_
        hot = torch.nn.functional.one_hot(torch.as_tensor(labels, device=self.x.device).long(), self.components)
        return self.parameters(hot.to(self.x.dtype))

    def sweep(self, q: Factors) -> Factors:
        """The assignments given the parameters, then the parameters given the assignments (Bishop, eqs. 10.46 and 10.58 to 10.63)."""
        return self.parameters(self.log_joint(q).softmax(-1))

    def parameters(self, responsibilities: Tensor) -> Factors:
        """The optimal q(π) q(μ, Λ) for given assignments (N, C), with these."""
        r, prior = responsibilities, self.prior
        count = r.sum(0)
        mean = (r.T @ self.x) / count.clamp(min=torch.finfo(r.dtype).tiny)[:, None]
        away = self.x[:, None] - mean
        spread = torch.einsum("nk,nki,nkj->kij", r, away, away)
        pull = mean - prior.location
        weight = prior.strength * count / (prior.strength + count)
        inverse = torch.linalg.inv(prior.scale) + spread + weight[:, None, None] * pull[:, :, None] * pull[:, None]
        strength = prior.strength + count
        location = (prior.strength[:, None] * prior.location + count[:, None] * mean) / strength[:, None]
        return Factors(
            r, prior.concentration + count, location, strength, torch.linalg.inv(inverse), prior.freedom + count
        )

    def log_joint(self, q: Factors) -> Tensor:
        """(N, C) E[ln p(x_n, z_n = k | π, μ, Λ)] over q(π) q(μ, Λ), nats."""
        features = self.x.shape[1]
        away = self.x[:, None] - q.location
        squares = q.freedom * torch.einsum("nki,kij,nkj->nk", away, q.scale, away) + features / q.strength
        weights = q.concentration.digamma() - q.concentration.sum().digamma()
        return weights + 0.5 * (_log_determinant(q) - features * math.log(2 * math.pi) - squares)

    def elbo(self, q: Factors) -> Tensor:
        """() nats: E[ln p(x, z | π, μ, Λ)] + H(z) − KL of the parameters to their prior."""
        r = q.responsibilities
        data = (r * self.log_joint(q)).sum() + torch.special.entr(r).sum()
        weights = kl_divergence(Dirichlet(q.concentration), Dirichlet(self.prior.concentration))
        return data - weights - self._normal_kl(q).sum() - self._wishart_kl(q).sum()

    def _normal_kl(self, q: Factors) -> Tensor:
        """(C,) E[KL(q(μ|Λ) ‖ p(μ|Λ))]."""
        prior, features = self.prior, self.x.shape[1]
        away = q.location - prior.location
        squares = q.freedom * torch.einsum("ki,kij,kj->k", away, q.scale, away)
        ratio = prior.strength / q.strength
        return 0.5 * (features * (ratio - 1 - ratio.log()) + prior.strength * squares)

    def _wishart_kl(self, q: Factors) -> Tensor:
        """(C,) KL(q(Λ) ‖ p(Λ))."""
        prior, features = self.prior, self.x.shape[1]
        trace = torch.einsum("kij,kji->k", torch.linalg.inv(prior.scale), q.scale)
        value = 0.5 * prior.freedom * (torch.logdet(prior.scale) - torch.logdet(q.scale))
        value = value + 0.5 * q.freedom * (trace - features)
        value = value + torch.mvlgamma(prior.freedom / 2, features) - torch.mvlgamma(q.freedom / 2, features)
        return value + 0.5 * (q.freedom - prior.freedom) * _digammas(q.freedom, features)


def _digammas(freedom: Tensor, features: int) -> Tensor:
    """Σ_i ψ((ν + 1 − i)/2) over i = 1 … D."""
    return ((freedom[:, None] - torch.arange(features, device=freedom.device)) / 2).digamma().sum(-1)


def _log_determinant(q: Factors) -> Tensor:
    """(C,) E[ln |Λ|]."""
    features = q.scale.shape[-1]
    return _digammas(q.freedom, features) + features * math.log(2.0) + torch.logdet(q.scale)
