"""Pairs with known answers, each with a few data, on which estimators are tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..arguments.function import FUNCTION
from ..arguments.kind import Anything, Several
from ..arguments.takes import takes
from ..data.dataset import Batch
from ..pair.pair import Pair
from .bernoulli_toy import bernoulli_toy
from .beta_bernoulli import beta_bernoulli
from .bimodal import bimodal
from .discrete_chain import discrete_chain
from .gamma_poisson import gamma_poisson
from .gaussian_chain import gaussian_chain
from .gaussian_mixture import gaussian_mixture
from .linear_gaussian import linear_gaussian
from .normal_normal import normal_normal
from .state_space import state_space
from .three_bernoulli import three_bernoulli


@takes(build=FUNCTION, rows=Several(Anything()))
@dataclass(frozen=True)
class Tractable:
    """A pair and its data, both made in torch's default type.

    Attributes:
        build: Makes the pair for so many rows.
        rows: What model and guide are called with, as nested lists.
    """

    build: Callable[[], Pair]
    rows: tuple[Any, ...]

    def pair(self) -> Pair:
        """A new one, initialised."""
        return self.build().initialise(self.batch())

    def batch(self) -> Batch:
        """All of the data."""
        return Batch((torch.tensor(self.rows, dtype=torch.get_default_dtype()),))


TRACTABLE: dict[str, Tractable] = {
    "normal_normal": Tractable(normal_normal, (-0.5, 2.0)),
    "gaussian_chain": Tractable(gaussian_chain, (-0.8, 1.7)),
    "linear_gaussian": Tractable(linear_gaussian, ((0.9, -0.4, 0.3), (-1.2, 0.8, 0.5))),
    "beta_bernoulli": Tractable(beta_bernoulli, ((1, 1, 0, 1), (0, 0, 1, 0))),
    "gamma_poisson": Tractable(gamma_poisson, ((1, 3, 2), (0, 1, 0))),
    "bimodal": Tractable(bimodal, (1.3, 2.4)),
    "bernoulli_toy": Tractable(bernoulli_toy, (0.0, 0.0)),
    "three_bernoulli": Tractable(three_bernoulli, (0.2, 1.9)),
    "gaussian_mixture": Tractable(gaussian_mixture, (-1.1, 0.6)),
    "discrete_chain": Tractable(discrete_chain, ((-0.9, 0.2, 1.3), (1.1, 0.7, -0.4))),
    "state_space": Tractable(lambda: state_space(2), ((0.9, -0.4), (-1.2, 0.8))),
}
"""Name → a pair with exact answers, in closed form or by `vb.tabulate`, and some data."""
