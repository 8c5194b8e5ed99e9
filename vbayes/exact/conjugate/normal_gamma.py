"""Unknown mean and precision of a Gaussian: the smallest model for which factorisation is not exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...arguments.real import POSITIVE
from ...arguments.takes import takes
from ...errors import BadInput


class Factors(NamedTuple):
    """q(μ) q(τ) = N(μ; location, 1/precision) Gamma(τ; shape, rate), each ()."""

    location: Tensor
    precision: Tensor
    shape: Tensor
    rate: Tensor


@takes(strength=POSITIVE, shape=POSITIVE, rate=POSITIVE)
@dataclass(frozen=True)
class NormalGamma:
    """τ ~ Gamma(shape, rate), μ ~ N(location, 1/(strength τ)), x_n ~ N(μ, 1/τ); q(μ) q(τ).

    Attributes:
        x: (N,) data.
        location, strength, shape, rate: Parameters of the prior: μ₀, λ₀, a₀, b₀.

    Raises:
        BadInput: There are no data, or the prior is not valid.

    References:
        Bishop 2006, Pattern recognition and machine learning, section 10.1.3; Murphy 2007, Conjugate Bayesian analysis of the Gaussian
        distribution, eqs. 85 to 99, for the exact posterior.
    """

    x: Tensor
    location: float = 0.0
    strength: float = 1.0
    shape: float = 1.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        if self.x.dim() != 1 or not len(self.x):
            raise BadInput(f"x has shape {tuple(self.x.shape)}. Wanted: (N,), with at least one number.")
        if min(self.strength, self.shape, self.rate) <= 0:
            raise BadInput(
                f"strength={self.strength}, shape={self.shape}, rate={self.rate} are not a valid prior. Wanted: numbers above 0."
            )

    def start(self, seed: int) -> Factors:
        """The prior, with a random location."""
        generator = torch.Generator("cpu").manual_seed(seed)  # so that a seed gives the same start everywhere
        noise = torch.randn((), generator=generator, dtype=self.x.dtype, device="cpu").to(self.x.device)
        shape, rate = self.x.new_tensor(self.shape), self.x.new_tensor(self.rate)
        return Factors(self.location + noise, self.strength * shape / rate, shape, rate)

    def sweep(self, q: Factors) -> Factors:
        """q(μ) given E[τ], then q(τ) given E[μ] and E[μ²]."""
        count = len(self.x)
        total = self.strength + count
        location = (self.strength * self.location + self.x.sum()) / total
        precision = total * q.shape / q.rate
        shape = q.shape.new_tensor(self.shape + (count + 1) / 2)
        return Factors(location, precision, shape, self.rate + 0.5 * self._squares(location, precision))

    def _squares(self, location: Tensor, precision: Tensor) -> Tensor:
        """E_q[Σ (x − μ)² + λ₀ (μ − μ₀)²]."""
        prior = self.strength * ((location - self.location).square() + 1 / precision)
        return (self.x - location).square().sum() + len(self.x) / precision + prior

    def elbo(self, q: Factors) -> Tensor:
        """() nats."""
        log_tau, tau = q.shape.digamma() - q.rate.log(), q.shape / q.rate
        count = len(self.x) + 1  # the prior of μ is one more Gaussian
        joint = 0.5 * count * (log_tau - math.log(2 * math.pi)) + 0.5 * math.log(self.strength)
        joint = joint - 0.5 * tau * self._squares(q.location, q.precision)
        joint = joint + self.shape * math.log(self.rate) - math.lgamma(self.shape)
        joint = joint + (self.shape - 1) * log_tau - self.rate * tau
        entropy = 0.5 * (1 + math.log(2 * math.pi) - q.precision.log())
        entropy = entropy + q.shape - q.rate.log() + q.shape.lgamma() + (1 - q.shape) * q.shape.digamma()
        return joint + entropy

    def posterior(self) -> NormalGamma:
        """The exact posterior, in the form of a prior: its `location`, `strength`, `shape` and `rate`."""
        count, mean = len(self.x), float(self.x.mean())
        strength = self.strength + count
        rate = self.rate + 0.5 * float((self.x - mean).square().sum())
        rate += 0.5 * self.strength * count * (mean - self.location) ** 2 / strength
        location = (self.strength * self.location + count * mean) / strength
        return NormalGamma(self.x, location, strength, self.shape + count / 2, rate)

    def log_evidence(self) -> Tensor:
        """() nats."""
        after = self.posterior()
        value = math.lgamma(after.shape) - math.lgamma(self.shape)
        value += self.shape * math.log(self.rate) - after.shape * math.log(after.rate)
        value += 0.5 * math.log(self.strength / after.strength) - 0.5 * len(self.x) * math.log(2 * math.pi)
        return self.x.new_tensor(value)
