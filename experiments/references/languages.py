"""The operations that the models need, so that each can be written once for both Pyro and NumPyro."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Array = Any  # torch's or JAX's


@dataclass(frozen=True)
class Language:
    """Pyro or NumPyro.

    Attributes:
        sample, factor, plate: The language's primitives.
        dist, constraints: Modules of distributions and of constraints.
        like: (array, shape, value) → an array of this shape filled with the value, of the same type and on the same device as the array.
        stack, cat: Join arrays along a new or along the first axis.
        logsumexp: (array, axis) → array.
        exp, log: Elementwise functions.
        eye: (n, array) → the n × n identity matrix, of the same type and on the same device as the array.
    """

    sample: Callable[..., Array]
    factor: Callable[..., Any]
    plate: Callable[..., Any]
    dist: Any
    constraints: Any
    like: Callable[[Array, tuple[int, ...], float], Array]
    stack: Callable[[list[Array]], Array]
    cat: Callable[[list[Array]], Array]
    logsumexp: Callable[[Array, int], Array]
    exp: Callable[[Array], Array]
    log: Callable[[Array], Array]
    eye: Callable[[int, Array], Array]

    def normal(self, like: Array, scale: float, *shape: int, location: float = 0.0) -> Any:
        """Independent normal priors as a single multivariate event."""
        return self.dist.Normal(self.like(like, shape, location), self.like(like, shape, scale)).to_event(len(shape))

    def flat(self, *shape: int) -> Any:
        """A flat prior on all real numbers."""
        real = self.constraints.real_vector if shape else self.constraints.real
        return self.dist.ImproperUniform(real, (), shape)

    def flat_positive(self) -> Any:
        """A flat prior on the positive numbers."""
        return self.dist.ImproperUniform(self.constraints.positive, (), ())


def pyro() -> Language:
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.distributions import constraints

    return Language(
        sample=pyro.sample,
        factor=pyro.factor,
        plate=pyro.plate,
        dist=dist,
        constraints=constraints,
        like=lambda array, shape, value: array.new_full(shape, value),
        stack=torch.stack,
        cat=torch.cat,
        logsumexp=torch.logsumexp,
        exp=torch.exp,
        log=torch.log,
        eye=lambda n, array: torch.eye(n, dtype=array.dtype, device=array.device),
    )


def numpyro() -> Language:
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.distributions import constraints

    return Language(
        sample=numpyro.sample,
        factor=numpyro.factor,
        plate=numpyro.plate,
        dist=dist,
        constraints=constraints,
        like=lambda array, shape, value: jnp.full(shape, value, array.dtype),
        stack=jnp.stack,
        cat=jnp.concatenate,
        logsumexp=jax.nn.logsumexp,
        exp=jnp.exp,
        log=jnp.log,
        eye=lambda n, array: jnp.eye(n, dtype=array.dtype),
    )
