"""The parameters of one normal in a guide: what they mean, and what its Fisher metric makes of a gradient in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import transform_to

LEAST = 0.1
"""Of its precision, what a direction keeps at least in a plain step: less, or nothing that is positive, is noise, or a place where the density bends upwards."""


@dataclass(frozen=True)
class NormalParameters:
    """Names and constraints of a normal's parameters, and the way between their unconstrained values and location and root of the covariance.

    The root is a lower triangle C (D, D) with Σ = C Cᵀ, or standard deviations of the location's shape. It is a triangle, or standard deviations times a
    triangle of ones, as Pyro's `AutoMultivariateNormal` has it.

    Attributes:
        names: Of location and standard deviations; of location and triangle; or of location, standard deviations and triangle.
        constraints: Of each of them but the location.
        full: Whether it has covariances.
    """

    names: tuple[str, ...]
    constraints: tuple[Any, ...]
    full: bool

    def read(self, *values: Tensor) -> tuple[Tensor, Tensor]:
        """Location and root, of unconstrained values in the order of `names`."""
        loc, *parts = values
        made = [transform_to(c)(part) for c, part in zip(self.constraints, parts, strict=True)]
        return loc, made[0] if len(made) == 1 else made[0][:, None] * made[1]

    def write(self, loc: Tensor, root: Tensor) -> tuple[Tensor, ...]:
        """The other way."""
        parts = [root]
        if len(self.constraints) == 2:
            scale = root.diagonal()
            parts = [scale, root / scale[:, None]]
        return loc, *(transform_to(c).inv(part) for c, part in zip(self.constraints, parts, strict=True))

    def slopes(self, values: Sequence[Tensor], gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a gradient is in location and root, where both are whitened by the root.

        Args:
            values, gradients: Unconstrained, of any function f.

        Returns:
            Location, root, ∂f/∂location, and the slope along C → C (I + K): K is symmetric, and its slope M = 2 Cᵀ (∂f/∂Σ) C (D, D); or that of each
            standard deviation's logarithm.
        """
        loc, root = self.read(*values)
        _, pull = torch.func.vjp(self.write, loc, root)  # type: ignore[misc]  # the inverse map takes a gradient to where it comes from
        along, turned = pull(tuple(gradients))
        if not self.full:
            return loc, root, along, root * turned
        lower = (root.mT @ turned.tril()).tril()
        return loc, root, along, lower + lower.tril(-1).mT

    def _length(self, root: Tensor, along: Tensor, bend: Tensor) -> Tensor:
        """√(gᵀ F⁻¹ g): (), or of each number by itself where there are no covariances."""
        if not self.full:
            return ((root * along).square() + bend.square() / 2).sqrt()
        return ((root.mT @ along).square().sum() + bend.square().sum() / 2).sqrt()

    def whitened(self, values: Sequence[Tensor], gradients: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """F^-½ g, whose squares add up to gᵀ F⁻¹ g with the Fisher matrix F of this normal, each part in the shape of its parameter.

        That is twice the KL, to second order, that a step along the natural gradient makes at rate 1.

        Args:
            values, gradients: As for `slopes`.
        """
        _, root, along, bend = self.slopes(values, gradients)
        if not self.full:
            return root * along, bend / 2**0.5
        scale, below = bend.diagonal() / 2**0.5, bend.tril(-1)
        return root.mT @ along, *((scale, below) if len(self.constraints) == 2 else (below + scale.diag_embed(),))

    def step(
        self, values: Sequence[Tensor], gradients: Sequence[Tensor], rate: float, max_kl: float = math.inf
    ) -> tuple[Tensor, ...]:
        """Unconstrained values after a natural-gradient step down a loss.

        In natural parameters, where the precision becomes Λ ← C⁻ᵀ W C⁻¹ with W = I + ρ M, and the location m ← m − ρ Σ ∂loss/∂m with the new covariance. Where W is
        not clear of zero it is I + ρ M + ρ² M² / 2 instead, which always is.

        Args:
            values, gradients: As for `slopes`, of the loss.
            rate: ρ; at 1 it leads to the optimum if the loss is the KL from a normal.
            max_kl: Nats that it may move the normal, to second order: ρ is less where it would be more. Of each number by itself, where there are no covariances.
        """
        loc, root, along, bend = self.slopes(values, gradients)
        if max_kl < math.inf:
            reach = self._length(root, along, bend) * rate / math.sqrt(2 * max_kl)
            rate = rate / reach.clamp_min(1.0)  # type: ignore[assignment]
        change = rate * bend
        if not self.full:
            kept = 1 + change
            root = root * torch.where(kept >= LEAST, kept, kept + change.square() / 2).rsqrt()
            return self.write(loc - rate * root.square() * along, root)
        plain = torch.eye(len(bend), dtype=bend.dtype, device=bend.device) + change
        factor, failed = torch.linalg.cholesky_ex(plain)
        clear = (factor.diagonal().square() >= LEAST).all() & (failed == 0)
        kept = torch.where(clear, plain, plain + change @ change / 2)
        # W = U Uᵀ with U an upper triangle, so that C U⁻ᵀ is a lower one.
        upper = torch.linalg.cholesky_ex(kept.flip(0, 1))[0].flip(0, 1)
        root = torch.linalg.solve_triangular(upper.mT, root, upper=False, left=False)
        return self.write(loc - rate * (root @ (root.mT @ along)), root)
