"""Steps along the natural gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..arguments.real import Real
from ..arguments.takes import takes
from ..data.dataset import Batch
from ..pair.pair import Pair
from .normal_parameters import NormalParameters
from .normals_of import normals_of


@takes(
    rate=Real(above=0.0, most=1.0, given="0.1"),
    max_kl=Real(above=0.0, finite=False, given="0.1"),
    decay=Real(least=0.0, given="0.01"),
)
@dataclass(frozen=True)
class NaturalGradient:
    """Natural-gradient steps along F⁻¹ g, where g is the gradient of any estimator and F the Fisher matrix of the guide.

    A step is taken in the natural parameters of each normal of the guide, diagonal or full, and keeps its covariance positive:

        C ← C (I − ρ M)^-½ as a triangle,  M = 2 Cᵀ (∂ELBO/∂Σ) C,    m ← m + ρ C Cᵀ ∂ELBO/∂m with the new C,

    so a precision is the running mean of curvatures, over 1/ρ steps. If the noise of a draw would make I − ρ M less than 0.1 along some direction, ρ² M²/2 is added
    (Lin et al.), which is positive at any rate. All other parameters are updated by Adam, with `learning_rate`.

    A gradient from few draws is a noisy estimate of D (D + 1) / 2 covariances: `max_kl` limits steps that are mostly noise, antithetic pairs of draws reduce the noise while the
    mean is far off, and the noise of `STL` vanishes at the posterior.

    Args:
        rate: Step size ρ. At 1, with the exact gradient of a normal posterior and no `max_kl`, one step reaches the posterior.
        max_kl: Maximum KL in nats by which a step may move a normal, to second order; ρ is reduced to stay within it. For a diagonal normal it applies to each number separately.
        decay: δ in ρ_t = ρ / (1 + δ (t − 1)) at step t, which makes the noise vanish over time (Robbins & Monro); 0 keeps ρ constant.

    References:
        Robbins & Monro 1951, A stochastic approximation method, doi:10.1214/aoms/1177729586.
        Khan & Rue 2023, The Bayesian learning rule, arXiv:2107.04562; Lin, Schmidt & Khan 2020, Handling the positive-definite constraint in the Bayesian learning
        rule, arXiv:2002.10060; Tan 2021, Natural gradient for the Cholesky factor, arXiv:2109.00375; Amari 1998, doi:10.1162/089976698300017746.

    Examples:
        >>> vb.fit(model, data, vb.STL(4, noise="antithetic"), guide="full", update=vb.NaturalGradient(rate=0.1), steps=500)
    """

    rate: float = 0.1
    max_kl: float = 0.1
    decay: float = 0.0

    def of(self, pair: Pair, batch: Batch) -> Callable[..., torch.optim.Optimizer]:
        """The optimiser for the parameters of a pair, inside the pair's scope.

        Raises:
            Unsuitable: The guide has no normal whose metric is known.
        """
        places = {name: place for place, name in enumerate(pair.leaves)}
        normals = normals_of(pair, batch)
        return partial(
            NaturalAdam,
            rate=self.rate,
            max_kl=self.max_kl,
            decay=self.decay,
            normals=[(normal, [places[n] for n in normal.names]) for normal in normals],
        )


class NaturalAdam(torch.optim.Adam):
    """Natural gradients for the parameters of normals, and Adam for all others.

    Args:
        params: As for any `torch.optim.Optimizer`.
        rate, max_kl, decay: As for `NaturalGradient`.
        normals: The normals, each with the indices of its parameters in `params`.
        options: Options of Adam.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        rate: float,
        max_kl: float,
        decay: float = 0.0,
        normals: Sequence[tuple[NormalParameters, Sequence[int]]],
        **options: Any,
    ) -> None:
        super().__init__(params, **options)
        self.rate, self.max_kl, self.decay = rate, max_kl, decay
        held = self.param_groups[0]["params"]
        self.normals = [(normal, [held[place] for place in places]) for normal, places in normals]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Takes one step, using the parameters' `.grad`."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        moved = []
        for normal, leaves in self.normals:
            gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
            taken = self.state[leaves[0]].get("step", torch.tensor(0.0, device="cpu"))
            moved.append(
                (leaves, self.moved(normal, [leaf.detach() for leaf in leaves], gradients, taken.double() + 1))
            )
            for leaf in leaves:
                leaf.grad = None  # not updated by Adam
        super().step()
        for leaves, values in moved:
            for leaf, value in zip(leaves, values, strict=True):
                leaf.copy_(value)
                self.state[leaf].setdefault("step", torch.tensor(0.0, device="cpu")).add_(1)
        return loss

    def moved(
        self, normal: NormalParameters, values: Sequence[Tensor], gradients: Sequence[Tensor], step: Tensor
    ) -> tuple[Tensor, ...]:
        """Values of a normal's parameters after a step that lowers the loss; steps are counted from 1."""
        rate: Any = self.rate
        if self.decay:
            rate = (rate / (1 + self.decay * (step - 1))).to(values[0])
        return normal.step(values, gradients, rate, self.max_kl)

    def together(self, leaf: Tensor) -> tuple[NormalParameters, list[Tensor]] | None:
        """The normal to which a parameter belongs, with all its parameters; None for parameters updated by Adam."""
        return next((each for each in self.normals if any(leaf is own for own in each[1])), None)
