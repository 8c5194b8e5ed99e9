"""NumPyro's NUTS and its SVI with a mean-field Gaussian, as its documentation shows them."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.diagnostics import effective_sample_size, gelman_rubin
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.util import constrain_fn, potential_energy
from numpyro.optim import Adam

from . import languages
from .found import Found
from .posteriors import Posterior

CHAINS = 4
RHAT = 1.01  # Vehtari et al. 2021, arXiv:1903.08008
# As in the example in the documentation of numpyro.infer.svi.SVI.
STEPS, RATE = 2000, 0.0005


def _ready(posterior: Posterior) -> tuple[Callable[..., None], tuple[jax.Array, ...]]:
    return posterior.formula(languages.numpyro()), tuple(jnp.asarray(column) for column in posterior.data.values())


def nuts(posterior: Posterior, *, seed: int, warmup: int, samples: int, chain_method: str) -> Found:
    """NUTS with `CHAINS` chains, flagged as bad by R̂. Divergences are only reported, as one in thousands of steps says little.

    Args:
        chain_method: NumPyro's option of this name.
    """
    model, args = _ready(posterior)
    start = time.perf_counter()
    mcmc = MCMC(
        NUTS(model),
        num_warmup=warmup,
        num_samples=samples,
        num_chains=CHAINS,
        chain_method=chain_method,
        progress_bar=False,
    )
    mcmc.run(jax.random.PRNGKey(seed), *args, extra_fields=("diverging",))
    chains = {name: np.asarray(values) for name, values in mcmc.get_samples(group_by_chain=True).items()}
    chains |= _derived(posterior, chains)
    effective = min(float(np.min(effective_sample_size(values))) for values in chains.values())
    rhat = max(float(np.max(gelman_rubin(values))) for values in chains.values())
    divergences = int(np.sum(mcmc.get_extra_fields()["diverging"]))
    seconds = time.perf_counter() - start
    says = f"R̂ {rhat:.3f}, {divergences} divergences, at least {effective:.0f} effective draws"
    draws = {name: values.reshape(-1, *values.shape[2:]) for name, values in chains.items()}
    return Found(draws, "bad" if rhat > RHAT else "good", seconds, effective=effective, says=says)


def _derived(posterior: Posterior, chains: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in chains.items()}
    like = next(iter(chains.values())).shape[:2]
    return {name: values.reshape(*like, *values.shape[1:]) for name, values in posterior.derived(flat).items()}


def svi(posterior: Posterior, *, seed: int, draws: int) -> Found:
    """A mean-field Gaussian in unconstrained coordinates, trained by `STEPS` steps of Adam. It does not report how good its draws are."""
    model, args = _ready(posterior)
    start = time.perf_counter()
    guide = AutoNormal(model)
    found = SVI(model, guide, Adam(RATE), Trace_ELBO()).run(jax.random.PRNGKey(seed), STEPS, *args, progress_bar=False)
    jax.block_until_ready(found.params)
    seconds = time.perf_counter() - start
    sites = {name.removesuffix("_auto_loc") for name in found.params if name.endswith("_auto_loc")}
    locations = {name: found.params[f"{name}_auto_loc"] for name in sites}
    scales = {name: found.params[f"{name}_auto_scale"] for name in sites}

    def draw(key: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        noise = {
            name: jax.random.normal(k, locations[name].shape)
            for name, k in zip(sorted(sites), jax.random.split(key, len(sites)), strict=True)
        }
        free = {name: locations[name] + scales[name] * noise[name] for name in sites}
        log_q = sum(jnp.sum(-0.5 * noise[name] ** 2 - jnp.log(scales[name])) for name in sites)
        return constrain_fn(model, args, {}, free), -potential_energy(model, args, {}, free) - log_q

    start = time.perf_counter()
    made, log_w = jax.lax.map(jax.jit(draw), jax.random.split(jax.random.PRNGKey(seed + 1), draws), batch_size=500)
    made = {name: np.asarray(values) for name, values in made.items()}
    drawing = time.perf_counter() - start
    effective = float(jnp.exp(2 * jax.nn.logsumexp(log_w) - jax.nn.logsumexp(2 * log_w)))
    return Found(made, "", seconds, drawing, effective=effective, says=f"{STEPS} steps of Adam at {RATE}")
