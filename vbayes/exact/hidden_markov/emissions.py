"""Emission distributions, one class for each kind of data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from ...arguments.takes import takes
from ...errors import BadInput
from ..degenerate import unchanging

LEAST_SPREAD = 1e-3
"""Of the data's standard deviation: a state that shrinks onto one datum has unbounded density otherwise."""


class Emission(ABC):
    """p(x_t | z_t) of S states."""

    @property
    @abstractmethod
    def states(self) -> int:
        """S."""

    @property
    @abstractmethod
    def features(self) -> tuple[int, ...]:
        """The shape of x at one step: () for a number, (D,) for a vector."""

    @abstractmethod
    def check(self) -> None:
        """Raises `BadInput` for invalid parameters."""

    @abstractmethod
    def check_data(self, x: Tensor) -> None:
        """Raises `BadInput` for values that no state can emit."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """(N, T, S) log p(x_t | state) of x (N, T, *features)."""

    @abstractmethod
    def given(self, states: Tensor) -> Distribution:
        """p(x_t | z_t) for states of any shape, with the features as its event."""

    @abstractmethod
    def sample(self, states: Tensor, generator: torch.Generator) -> Tensor:
        """(*shape, *features) for states of any shape."""

    @abstractmethod
    def mixture(self, weights: Tensor) -> Distribution:
        """Σ_s weights[..., s] p(x | s), for weights (..., S)."""

    @abstractmethod
    def learnt(self, x: Tensor, weights: Tensor) -> Emission:
        """The parameters that maximise Σ weights · log p(x | state): the M-step.

        Args:
            x: (N, T, *features); any finite number where all weights are 0.
            weights: (N, T, S) expected counts. A state without any keeps its parameters.

        Raises:
            BadInput: There is no maximum.
        """


@takes()
@dataclass(frozen=True)
class GaussianEmission(Emission):
    """Gaussian emissions: x_t ~ N(mean[z_t], scale[z_t]²), with features independent given the state.

    Attributes:
        mean: (S,), or (S, D) for vectors.
        scale: Standard deviations, of the same shape.
    """

    mean: Tensor
    scale: Tensor

    def __post_init__(self) -> None:
        if self.mean.shape != self.scale.shape or self.mean.dim() not in (1, 2):
            raise BadInput(
                f"mean has shape {tuple(self.mean.shape)} and scale {tuple(self.scale.shape)}. Wanted: (S,) or (S, D), both the same."
            )

    @property
    def states(self) -> int:
        return len(self.mean)

    @property
    def features(self) -> tuple[int, ...]:
        return tuple(self.mean.shape[1:])

    def check(self) -> None:
        if not (torch.isfinite(self.mean).all() and torch.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise BadInput(
                f"mean={self.mean.tolist()}, scale={self.scale.tolist()}. Wanted: finite means, positive scales."
            )

    def check_data(self, x: Tensor) -> None:
        if not x.is_floating_point():
            raise BadInput(f"x has dtype {x.dtype}, but the emission is Gaussian. Wanted: real numbers, x.double().")
        if not torch.isfinite(x).all():
            raise BadInput(
                "x has NaN or infinite values at steps that count. Wanted: finite numbers, or observed=~x.isnan()."
            )

    def log_prob(self, x: Tensor) -> Tensor:
        each = Normal(self.mean, self.scale, validate_args=False).log_prob(x.unsqueeze(2))
        return each.sum(-1) if self.features else each

    def given(self, states: Tensor) -> Distribution:
        return Independent(Normal(self.mean[states], self.scale[states]), len(self.features))

    def sample(self, states: Tensor, generator: torch.Generator) -> Tensor:
        return torch.normal(self.mean[states], self.scale[states], generator=generator)

    def mixture(self, weights: Tensor) -> Distribution:
        each = Independent(Normal(self.mean, self.scale), len(self.features))
        return MixtureSameFamily(Categorical(weights), each.expand(weights.shape))

    def learnt(self, x: Tensor, weights: Tensor) -> GaussianEmission:
        wide = x.reshape(*x.shape[:2], -1)
        seen = weights.sum((0, 1))[:, None]
        share = weights / torch.where(seen > 0, seen, 1.0)[:, 0]
        mean = torch.einsum("nts,ntd->sd", share, wide)
        variance = torch.stack([torch.einsum("nt,ntd->d", share[..., s], (wide - mean[s]) ** 2) for s in range(len(seen))])  # fmt: skip
        # The variance of all the data that count, below which no state's may fall by more than LEAST_SPREAD².
        rows = wide[weights.sum(-1) > 0]
        if len(rows) and unchanging(rows).any():
            raise BadInput(
                "The data never change in some feature, so their density has no maximum. Wanted: data that vary."
            )
        counted = (weights.sum(-1) > 0)[..., None].to(wide)
        centre = (counted * wide).sum((0, 1)) / counted.sum()
        floor = LEAST_SPREAD**2 * (counted * (wide - centre) ** 2).sum((0, 1)) / counted.sum()
        scale = torch.maximum(variance, floor).sqrt()
        kept = (seen > 0).expand_as(mean).reshape(self.mean.shape)
        return GaussianEmission(
            torch.where(kept, mean.reshape(self.mean.shape), self.mean),
            torch.where(kept, scale.reshape(self.mean.shape), self.scale),
        )


@takes()
@dataclass(frozen=True)
class CategoricalEmission(Emission):
    """Categorical emissions: x_t ∈ {0, …, K−1} with the probabilities probability[z_t].

    Attributes:
        probability: (S, K), rows sum to one.
    """

    probability: Tensor

    def __post_init__(self) -> None:
        if self.probability.dim() != 2:
            raise BadInput(
                f"probability has shape {tuple(self.probability.shape)}. Wanted: (S, K), a row for each state."
            )

    @property
    def states(self) -> int:
        return len(self.probability)

    @property
    def features(self) -> tuple[int, ...]:
        return ()

    @property
    def symbols(self) -> int:
        """K."""
        return self.probability.shape[1]

    def check(self) -> None:
        check_probabilities("probability of the emission", self.probability)

    def check_data(self, x: Tensor) -> None:
        if x.is_floating_point() or x.dtype == torch.bool:
            raise BadInput(f"x has dtype {x.dtype}, but the emission is categorical. Wanted: integers, x.long().")
        if bool((x < 0).any() or (x >= self.symbols).any()):
            raise BadInput(
                f"x has symbols from {int(x.min())} to {int(x.max())}. Wanted: 0 to {self.symbols - 1}; mark missing steps "
                "with observed=, not with a symbol."
            )

    def log_prob(self, x: Tensor) -> Tensor:
        return log_of(self.probability).mT[x.long()]

    def given(self, states: Tensor) -> Distribution:
        return Categorical(self.probability[states])

    def sample(self, states: Tensor, generator: torch.Generator) -> Tensor:
        rows = self.probability[states]
        return torch.multinomial(rows.reshape(-1, self.symbols), 1, generator=generator).reshape(states.shape)

    def mixture(self, weights: Tensor) -> Categorical:
        return Categorical(weights @ self.probability)

    def learnt(self, x: Tensor, weights: Tensor) -> CategoricalEmission:
        symbol = torch.nn.functional.one_hot(x.long(), self.symbols).to(weights)
        return CategoricalEmission(shares(torch.einsum("nts,ntk->sk", weights, symbol), self.probability))


def log_of(probability: Tensor) -> Tensor:
    """The logarithm, −∞ at 0, with a gradient that is zero there instead of infinite."""
    tiny = torch.finfo(probability.dtype).tiny
    return torch.where(probability > 0, probability.clamp(min=tiny).log(), -torch.inf)


def shares(counts: Tensor, otherwise: Tensor) -> Tensor:
    """Rows of counts as probabilities; a row without counts is the other one's."""
    seen = counts.sum(-1, keepdim=True)
    return torch.where(seen > 0, counts / torch.where(seen > 0, seen, 1.0), otherwise)


def check_probabilities(what: str, rows: Tensor) -> None:
    """Raises `BadInput` where the last dimension is no distribution."""
    sums = rows.sum(-1)
    if not (bool((rows >= 0).all()) and bool(((sums - 1).abs() < 1e-4).all())):
        raise BadInput(f"{what}: rows sum to {sums.tolist()}, the least entry is {float(rows.min()):.3g}. Wanted: probabilities that sum to 1.")  # fmt: skip
