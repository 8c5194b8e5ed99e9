"""The parameters of one normal in a guide, and natural gradients with respect to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import transform_to

LEAST = 0.1
"""Minimum factor for the precision along a direction in a plain step: a smaller or negative one is due to noise, or to positive curvature of the log density."""


@dataclass(frozen=True)
class NormalParameters:
    """Names and constraints of a normal's parameters, and the map between their unconstrained values and location and covariance root.

    The root is a lower triangle C (D, D) with Σ = C Cᵀ, or standard deviations with the location's shape. The triangle is a parameter itself, or standard deviations times a
    unit triangle, as in Pyro's `AutoMultivariateNormal`.

    Attributes:
        names: Names of location and standard deviations; of location and triangle; or of location, standard deviations and triangle.
        constraints: Constraints of each of them except the location.
        full: Whether it has covariances.
    """

    names: tuple[str, ...]
    constraints: tuple[Any, ...]
    full: bool

    def read(self, *values: Tensor) -> tuple[Tensor, Tensor]:
        """Location and root from unconstrained values in the order of `names`."""
        loc, *parts = values
        made = [transform_to(c)(part) for c, part in zip(self.constraints, parts, strict=True)]
        return loc, made[0] if len(made) == 1 else made[0][:, None] * made[1]

    def write(self, loc: Tensor, root: Tensor) -> tuple[Tensor, ...]:
        """Unconstrained values from location and root."""
        parts = [root]
        if len(self.constraints) == 2:
            scale = root.diagonal()
            parts = [scale, root / scale[:, None]]
        return loc, *(transform_to(c).inv(part) for c, part in zip(self.constraints, parts, strict=True))

    def slopes(self, values: Sequence[Tensor], gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Converts a gradient to coordinates of location and root that are whitened by the root.

        Args:
            values, gradients: Unconstrained values, and the gradient of any function f with respect to them.

        Returns:
            Location, root, ∂f/∂location, and the gradient with respect to a symmetric K in C → C (I + K), M = 2 Cᵀ (∂f/∂Σ) C (D, D); or with respect to the
            logarithm of each standard deviation.
        """
        loc, root = self.read(*values)
        _, pull = torch.func.vjp(self.write, loc, root)  # type: ignore[misc]  # the inverse map takes a gradient to where it comes from
        along, turned = pull(tuple(gradients))
        if not self.full:
            return loc, root, along, root * turned
        lower = (root.mT @ turned.tril()).tril()
        return loc, root, along, lower + lower.tril(-1).mT

    def _length(self, root: Tensor, along: Tensor, bend: Tensor) -> Tensor:
        """√(gᵀ F⁻¹ g): (), or for each number separately if there are no covariances."""
        if not self.full:
            return ((root * along).square() + bend.square() / 2).sqrt()
        return ((root.mT @ along).square().sum() + bend.square().sum() / 2).sqrt()

    def whitened(self, values: Sequence[Tensor], gradients: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """F^-½ g, whose squared norm is gᵀ F⁻¹ g with the Fisher matrix F of this normal; each part has the shape of its parameter.

        To second order this is twice the KL of a natural-gradient step at rate 1.

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
        """Unconstrained values after a natural-gradient step that lowers a loss.

        The step is taken in natural parameters: the precision becomes Λ ← C⁻ᵀ W C⁻¹ with W = I + ρ M, and the location m ← m − ρ Σ ∂loss/∂m with the new covariance. If W is
        not safely positive, it is replaced by I + ρ M + ρ² M² / 2, which always is.

        Args:
            values, gradients: As for `slopes`, for the loss.
            rate: Step size ρ; at 1 it leads to the optimum if the loss is the KL from a normal.
            max_kl: Maximum KL in nats of the step, to second order; ρ is reduced to stay within it. Without covariances it applies to each number separately.
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
        # W = U Uᵀ with U upper triangular, so that C U⁻ᵀ is lower triangular.
        upper = torch.linalg.cholesky_ex(kept.flip(0, 1))[0].flip(0, 1)
        root = torch.linalg.solve_triangular(upper.mT, root, upper=False, left=False)
        return self.write(loc - rate * (root @ (root.mT @ along)), root)
