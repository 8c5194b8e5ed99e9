"""Random numbers that are not made from the noise given to a program: each operation draws with its own key."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax, nn, random
from torch import Tensor

from ..crossing import name_of
from .registry import Unsupported, draw


def _like(out: Tensor) -> dict[str, Any]:
    return {"shape": tuple(out.shape), "dtype": name_of(out.dtype)}


@draw("rand", "rand_like")
def _rand(key: Any, out: Tensor, *_: Any, **__: Any) -> Any:
    return random.uniform(key, **_like(out))


@draw("uniform")
def _uniform(key: Any, out: Tensor, x: Any, low: float = 0, high: float = 1, **_: Any) -> Any:
    return random.uniform(key, **_like(out), minval=low, maxval=high)


@draw("randn", "randn_like")
def _randn(key: Any, out: Tensor, *_: Any, **__: Any) -> Any:
    return random.normal(key, **_like(out))


@draw("normal", "normal_functional")
def _normal(key: Any, out: Tensor, mean: Any = 0.0, std: Any = 1.0, *rest: Any, **_: Any) -> Any:
    if rest:  # as a method: its numbers are overwritten
        mean, std = std, rest[0]
    return mean + std * random.normal(key, **_like(out))


@draw("exponential")
def _exponential(key: Any, out: Tensor, x: Any, rate: float = 1.0, **_: Any) -> Any:
    return random.exponential(key, **_like(out)) / rate


@draw("bernoulli")
def _bernoulli(key: Any, out: Tensor, x: Any, p: Any = None, **_: Any) -> Any:
    return random.bernoulli(key, x if p is None else p, tuple(out.shape))


@draw("poisson")
def _poisson(key: Any, out: Tensor, rate: Any, *_: Any) -> Any:
    return random.poisson(key, rate, tuple(out.shape))


@draw("binomial")
def _binomial(key: Any, out: Tensor, count: Any, p: Any, *_: Any) -> Any:
    return random.binomial(key, count, p, tuple(out.shape), count.dtype)


@draw("multinomial")
def _multinomial(key: Any, out: Tensor, weights: Any, count: int, replacement: bool = False, **_: Any) -> Any:
    logits = jnp.log(weights)
    if replacement:
        many = random.categorical(key, logits, axis=-1, shape=(count, *weights.shape[:-1]))
        return jnp.moveaxis(many, 0, -1)
    # The largest of logits with Gumbel noise, without putting back.
    scores = logits + random.gumbel(key, weights.shape, logits.dtype)
    return lax.top_k(scores, count)[1]


@draw("_standard_gamma")
def _gamma(key: Any, out: Tensor, shape: Any, *_: Any) -> Any:
    return random.gamma(key, shape, tuple(out.shape), name_of(out.dtype))


@draw("_sample_dirichlet")
def _dirichlet(key: Any, out: Tensor, shape: Any, *_: Any) -> Any:
    # By logarithms: with small shapes all gammas may be zero.
    logs = random.loggamma(key, shape, tuple(out.shape), name_of(out.dtype))
    return nn.softmax(logs, axis=-1)


@draw("randperm")
def _randperm(key: Any, out: Tensor, count: int, **_: Any) -> Any:
    return random.permutation(key, count)


@draw("randint", "randint_like")
def _randint(key: Any, out: Tensor, *args: Any, **_: Any) -> Any:
    bounds = [a for a in args if isinstance(a, int)]
    if not 1 <= len(bounds) <= 2:
        raise Unsupported("randint without bounds")
    low, high = (0, bounds[0]) if len(bounds) == 1 else bounds
    return random.randint(key, tuple(out.shape), low, high)


@draw("geometric")
def _geometric(key: Any, out: Tensor, x: Any, p: float, **_: Any) -> Any:
    return random.geometric(key, p, tuple(out.shape))


@draw("cauchy")
def _cauchy(key: Any, out: Tensor, x: Any, median: float = 0, scale: float = 1, **_: Any) -> Any:
    return median + scale * random.cauchy(key, **_like(out))


@draw("log_normal")
def _log_normal(key: Any, out: Tensor, x: Any, mean: float = 1, std: float = 2, **_: Any) -> Any:
    return jnp.exp(mean + std * random.normal(key, **_like(out)))
