"""One file per model/guide pair, and the recipes by which the command line builds them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..data.dataset import Dataset
from ..exact.hidden_markov.starts import random_start
from ..pair.pair import Pair
from .bernoulli_toy import bernoulli_toy as bernoulli_toy
from .beta_bernoulli import beta_bernoulli as beta_bernoulli
from .bimodal import bimodal as bimodal
from .bottleneck_autoencoder import bottleneck_autoencoder as bottleneck_autoencoder
from .discrete_chain import discrete_chain as discrete_chain
from .eight_schools import eight_schools as eight_schools
from .factor_analysis import factor_analysis as factor_analysis
from .gamma_poisson import gamma_poisson as gamma_poisson
from .gaussian_chain import gaussian_chain as gaussian_chain
from .gaussian_mixture import gaussian_mixture as gaussian_mixture
from .hmm import hidden_markov_of as hidden_markov_of
from .hmm import hmm as hmm
from .hmm import hmm_summed as hmm_summed
from .linear_autoencoder import linear_autoencoder as linear_autoencoder
from .linear_gaussian import linear_gaussian as linear_gaussian
from .mean_field import mean_field as mean_field
from .monte_carlo import monte_carlo as monte_carlo
from .normal_normal import normal_normal as normal_normal
from .probabilistic_pca import probabilistic_pca as probabilistic_pca
from .sparse_autoencoder import sparse_autoencoder as sparse_autoencoder
from .state_space import state_space as state_space
from .three_bernoulli import three_bernoulli as three_bernoulli
from .tractable import TRACTABLE as TRACTABLE
from .tractable import Tractable as Tractable
from .vae import vae as vae


@dataclass(frozen=True)
class Recipe:
    """How to build a pair for a data set.

    Attributes:
        build: A function that returns a `Pair`. Those of `x` (the first column), `features`, `rows` and `output` that it takes are
            filled in from the data.
        data: Name of the data set that it is shown on.
        batch_size: Rows in a minibatch; None for all.
        epochs: How long training takes to settle, with Adam at `learning_rate`.
        learning_rate: See `epochs`.
    """

    build: Callable[..., Pair]
    data: str = "digits"
    batch_size: int | None = 100
    epochs: int = 40
    learning_rate: float = 1e-3

    def pair(self, data: Dataset) -> Pair:
        """The pair for this data set."""
        offers: dict[str, Any] = {
            "x": data.first,
            "features": data.first[0].numel(),
            "rows": len(data),
            "output": "gaussian" if data.support != "binary" else "bernoulli",
        }
        wanted = inspect.signature(self.build).parameters
        return self.build(**{k: v for k, v in offers.items() if k in wanted})

    @property
    def summary(self) -> str:
        """What the pair is, in a line."""
        return (inspect.getdoc(self.build) or "").split("\n")[0]


def _two_regimes(x: Tensor) -> Pair:
    """Hidden Markov model of two states, summed out; `vb.pairs.hmm_summed` has any number, `hmm` a factored guide."""
    return hmm_summed(random_start(x, 2))


PAIRS: dict[str, Recipe] = {
    "vae": Recipe(vae),
    "mean_field": Recipe(mean_field),
    "monte_carlo": Recipe(monte_carlo),
    "linear_autoencoder": Recipe(linear_autoencoder),
    "bottleneck_autoencoder": Recipe(bottleneck_autoencoder),
    "sparse_autoencoder": Recipe(sparse_autoencoder),
    "probabilistic_pca": Recipe(probabilistic_pca),
    "hmm_summed": Recipe(_two_regimes, data="nile", batch_size=None, epochs=1000, learning_rate=0.3),
    "eight_schools": Recipe(eight_schools, data="eight_schools", batch_size=None, epochs=3000, learning_rate=1e-2),
    "normal_normal": Recipe(normal_normal, data="normal_normal", batch_size=None, epochs=2000, learning_rate=1e-2),
}
"""Name on the command line → recipe."""
