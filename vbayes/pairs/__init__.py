"""Model/guide pairs, one file each, and the recipes from which the command line builds them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, get_default_dtype, stack

from ..arguments.text import typed
from ..data.dataset import Dataset
from ..errors import BadData, UnknownKeyword, near
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

FROM_DATA = ("x", "features", "rows")  # options that only a data set determines
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Recipe:
    """How to build a pair for a data set.

    Attributes:
        build: A function that returns a `Pair`. Those of `x` (the first column), `features`, `rows` and `output` that it takes are
            filled in from the data; `vbayes train --set` reaches the others.
        data: Name of the default data set.
        batch_size: Rows in a minibatch; None for all.
        epochs: Number of epochs until training settles, with Adam at `learning_rate`.
        learning_rate: See `epochs`.
    """

    build: Callable[..., Pair]
    data: str = "digits"
    batch_size: int | None = 100
    epochs: int = 40
    learning_rate: float = 1e-3

    def pair(self, data: Dataset, **settings: Any) -> Pair:
        """The pair for this data set, with some of its `settings` changed."""
        return self.build(**{**self._offers(data), **settings})

    def features(self, data: Dataset) -> tuple[str, ...]:
        """The columns of a table that are the features of one, x: all of numbers, where the pair has features and the table no column x."""
        if "features" not in inspect.signature(self.build).parameters or "x" in data.tensors or not data.named:
            return ()
        return tuple(name for name, value in data.tensors.items() if name not in data.labels and value.ndim == 1)

    def fed(self, data: Dataset, features: Sequence[str]) -> Dataset:
        """A table as the pair takes it: with those columns as the features of one; as it is where there are none.

        Raises:
            BadData: It lacks one, or has names in it.
        """
        if not features:
            return data
        if lacking := [name for name in features if name not in data.tensors or name in data.labels]:
            raise BadData(
                f"Data set {data.name!r} has no numeric column {lacking[0]!r}. Wanted: {', '.join(features)}, to which the pair is fitted."
            )
        x = stack([data.tensors[name].to(get_default_dtype()) for name in features], -1)
        within = bool(((x >= 0) & (x <= 1)).all())
        support = "binary" if bool(((x == 0) | (x == 1)).all()) else "unit" if within else "real"
        return Dataset({"x": x}, name=data.name, source=data.source, support=support)  # type: ignore[arg-type]

    def settings(self, data: Dataset) -> dict[str, Any]:
        """Setting → its default; None also if there is none."""
        found = {name: p.default for name, p in inspect.signature(self.build).parameters.items() if p.kind in NAMED}
        offers = self._offers(data)
        free = {name: offers.get(name, default) for name, default in found.items() if name not in FROM_DATA}
        return {name: None if value is inspect.Parameter.empty else value for name, value in free.items()}

    def typed(self, name: str, data: Dataset, given: Mapping[str, str]) -> dict[str, Any]:
        """Parses typed settings, each in the type of its default.

        Args:
            name: Name of the pair.
            data: Its data set.
            given: Setting → text.

        Raises:
            UnknownKeyword: There is no such setting; the message lists the existing ones.
            BadInput: A value has the wrong type.
        """
        known = self.settings(data)
        for word in given:
            if word not in known:
                there = f"Its settings: {', '.join(f'{k}={v}' for k, v in known.items())}." if known else "It has none."
                why = ": it comes from the data." if word in FROM_DATA else f". {near(word, known)}"
                raise UnknownKeyword(f"{name} has no setting {word!r}{why}\n{there}")
        return {word: typed(word, text, known[word]) for word, text in given.items()}

    def _offers(self, data: Dataset) -> dict[str, Any]:
        offers: dict[str, Any] = {
            "x": data.first,
            "features": data.first[0].numel(),
            "rows": len(data),
            "output": "gaussian" if data.support != "binary" else "bernoulli",
        }
        wanted = inspect.signature(self.build).parameters
        return {name: value for name, value in offers.items() if name in wanted}

    @property
    def summary(self) -> str:
        """A description of the pair, in one line."""
        return (inspect.getdoc(self.build) or "").split("\n")[0]


def _regimes(x: Tensor, states: int = 2) -> Pair:
    """Hidden Markov model whose states are summed out; `vb.pairs.hmm` has a factored guide."""
    return hmm_summed(random_start(x, states))


PAIRS: dict[str, Recipe] = {
    "vae": Recipe(vae),
    "mean_field": Recipe(mean_field),
    "monte_carlo": Recipe(monte_carlo),
    "linear_autoencoder": Recipe(linear_autoencoder),
    "bottleneck_autoencoder": Recipe(bottleneck_autoencoder),
    "sparse_autoencoder": Recipe(sparse_autoencoder),
    "probabilistic_pca": Recipe(probabilistic_pca),
    "hmm_summed": Recipe(_regimes, data="nile", batch_size=None, epochs=1000, learning_rate=0.3),
    "eight_schools": Recipe(eight_schools, data="eight_schools", batch_size=None, epochs=3000, learning_rate=1e-2),
    "normal_normal": Recipe(normal_normal, data="normal_normal", batch_size=None, epochs=2000, learning_rate=1e-2),
}
"""Name on the command line → recipe."""
