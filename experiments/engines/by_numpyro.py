"""The same problems in NumPyro, with its own AutoNormal and Adam."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.example_libraries import stax
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from numpyro.optim import Adam

from .problems import HIDDEN, Problem


def schools(y, sigma):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("data", len(y)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def logistic(x, y, total=569):
    w = numpyro.sample("w", dist.Normal(jnp.zeros(x.shape[1]), 1.0).to_event(1))
    b = numpyro.sample("b", dist.Normal(0.0, 3.0))
    with numpyro.plate("data", len(x)), numpyro.handlers.scale(scale=total / len(x)):
        numpyro.sample("y", dist.Bernoulli(logits=x @ w + b), obs=y)


def network(x, y):
    w1 = numpyro.sample("w1", dist.Normal(jnp.zeros((x.shape[1], HIDDEN)), 1.0).to_event(2))
    b1 = numpyro.sample("b1", dist.Normal(jnp.zeros(HIDDEN), 1.0).to_event(1))
    w2 = numpyro.sample("w2", dist.Normal(jnp.zeros(HIDDEN), HIDDEN**-0.5).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.Normal(jnp.tanh(x @ w1 + b1) @ w2, sigma), obs=y)


def _encoder():
    two = stax.parallel(stax.Dense(20), stax.serial(stax.Dense(20), stax.elementwise(lambda v: jnp.exp(0.5 * v))))
    return stax.serial(stax.Dense(400), stax.Tanh, stax.FanOut(2), two)


def _decoder():
    return stax.serial(stax.Dense(400), stax.Tanh, stax.Dense(784))


def vae(x, total=60_000):
    decode = numpyro.module("decoder", _decoder(), (len(x), 20))
    with numpyro.plate("data", len(x)), numpyro.handlers.scale(scale=total / len(x)):
        z = numpyro.sample("z", dist.Normal(jnp.zeros(20), 1.0).to_event(1))
        numpyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)


def vae_guide(x, total=60_000):
    encode = numpyro.module("encoder", _encoder(), (len(x), 784))
    location, scale = encode(x)
    with numpyro.plate("data", len(x)), numpyro.handlers.scale(scale=total / len(x)):
        numpyro.sample("z", dist.Normal(location, scale).to_event(1))


PAIRS = {
    "eight_schools": (schools, None),
    "logistic": (logistic, None),
    "logistic_minibatch": (logistic, None),
    "bnn": (network, None),
    "vae": (vae, vae_guide),
}


class NumPyro:
    """NumPyro's SVI for a problem, with its data.

    Args:
        name: The problem's name.
        problem: The problem's data and settings.
        full_rank: Whether the guide is a Gaussian with a full covariance matrix, if the problem has no guide of its own.
        particles: Number of particles, K.
    """

    def __init__(self, name: str, problem: Problem, *, full_rank: bool = False, particles: int = 1) -> None:
        model, guide = PAIRS[name]
        if name == "logistic":
            model = functools.partial(model, total=len(problem.data[0]))
        guide = guide or (AutoMultivariateNormal if full_rank else AutoNormal)(model)
        self.svi = SVI(model, guide, Adam(problem.learning_rate), Trace_ELBO(num_particles=particles))
        where = jax.devices(problem.data[0].device.type)[0]  # what is computed from them is there too
        self.columns = tuple(jax.device_put(column.cpu().numpy(), where) for column in problem.data)
        self.size = problem.batch_size
        self.state = self.svi.init(jax.random.PRNGKey(0), *self._batch(jax.random.PRNGKey(1), self.columns))

    def _batch(self, key, columns):
        if self.size is None:
            return columns
        index = jax.random.randint(key, (self.size,), 0, len(columns[0]))
        return tuple(column[index] for column in columns)

    def steps(self) -> Callable[[int], object]:
        """A loop in Python that calls `jit(svi.update)` once per step."""

        @jax.jit
        def step(state, key, columns):
            return self.svi.update(state, *self._batch(key, columns))

        def run(count: int) -> object:
            keys = jax.random.split(jax.random.PRNGKey(2), 64)
            state = self.state
            for i in range(count):
                state, _ = step(state, keys[i % 64], self.columns)
            return jax.block_until_ready(state)

        return run

    def loop(self) -> Callable[[int], object]:
        """All steps in one `jit(scan)`, which also returns the losses."""

        def run(state, key, columns, count):
            def step(carry, _):
                state, key = carry
                key, other = jax.random.split(key)
                state, loss = self.svi.update(state, *self._batch(other, columns))
                return (state, key), loss

            return jax.lax.scan(step, (state, key), None, length=count)

        compiled = jax.jit(run, static_argnums=3)
        return lambda count: jax.block_until_ready(compiled(self.state, jax.random.PRNGKey(2), self.columns, count))

    def draws(self, count: int) -> Callable[[], object]:
        """`count` gradients at once, by `jit(vmap(grad))` over random keys."""
        parameters = self.svi.get_params(self.state)
        unconstrained = self.svi.optim.get_params(self.state.optim_state)
        del parameters

        def loss(values, key):
            constrained = self.svi.constrain_fn(values)
            return self.svi.loss.loss(key, constrained, self.svi.model, self.svi.guide, *self.columns)

        many = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))

        def run() -> object:
            return jax.block_until_ready(many(unconstrained, jax.random.split(jax.random.PRNGKey(3), count)))

        return run
