"""Draws particles with Pyro's handlers; the results are tensors.

A model never has to broadcast over K particles, which `vectorize_particles` requires, and which breaks some models (`X @ w`) or
silently changes them (`w.mean()`). A few particles are drawn one by one, many in parallel by `vmap`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from ..arguments.function import FUNCTION
from ..arguments.kind import Optional
from ..arguments.takes import takes
from ..data.dataset import Batch, Dataset
from ..errors import BadInput
from ..pair.explained import explained
from ..pair.gaps import check_gaps
from ..pair.paired import Model, is_trained, pair_of
from .base_noise import NOISE, NoiseKind, contexts
from .fields import FIELDS
from .in_steps import Resample, in_steps
from .particles import Latent, Particles, stacked_records
from .request import OF_NUMBERS, Request
from .requirements import CHECKS
from .run import Run
from .side_by_side import FEW, side_by_side


@takes(noise=NOISE, resample=Optional(FUNCTION))
def draw(
    pair: Model,
    batch: Any,
    num_particles: int,
    needs: Collection[str],
    *,
    requires: Collection[str] = (),
    families: Collection[str] = (),
    noise: NoiseKind = "iid",
    resample: Resample | None = None,
) -> Particles:
    """Draws K particles from the guide and computes their weights.

    Args:
        pair: Model and guide; the result is differentiable in its parameters only inside `pair.scope()`.
        batch: A `vb.Batch` with the arguments of model and guide; or data, as for `fit`.
        num_particles: Number of particles, K.
        needs: Fields of `Particles` to compute.
        requires: Requirements on every site or on the draws: "path" (every site of the guide has a reparameterised path),
            "closed_form_kl" (every site has a KL in closed form), "downstream_costs" (costs in `scored` include only terms that depend on the
            draw), "antithetic_pairs" (whatever `noise` is).
        families: Allowed families of latents, if `latents` or `weigh` is needed: "bernoulli", "categorical", "one_hot", "normal", "full_normal", "normal_mixture".
        noise: How the base noise of the particles is related; must be "iid" if `steps` is needed.
        resample: For `steps`, called between two steps like `Estimator.resample`; no resampling if None.

    Raises:
        BadInput: There is no such field, requirement or family.
        Unsuitable: A site of the guide does not meet a requirement.
    """
    given, pair = pair, pair_of(pair)
    if not isinstance(batch, Batch):
        data = Dataset.of(batch)
        check_gaps(pair, data, None)
        batch = data.batch(pair.model)
    batch = pair.beside(batch)
    model, guide = pair.scaled(batch.total)
    request = Request.of(needs, requires, families)
    alone = (
        nullcontext() if given is pair or is_trained(given) else pair.scope()
    )  # its parameters belong to no one else
    with explained(pair, batch), alone:
        return draw_from(model, guide, batch.args, {}, num_particles, request, noise=noise, resample=resample)


def draw_from(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    num_particles: int,
    request: Request,
    *,
    noise: NoiseKind = "iid",
    resample: Resample | None = None,
    **enumeration: Any,
) -> Particles:
    """`draw` for a bare Pyro model and guide, in whatever param store is current.

    Args:
        resample: As for `draw`.
        enumeration: Keywords for Pyro's `TraceEnum_ELBO`.
    """
    if "steps" in request.fields:
        if request.noise(noise) != "iid":
            raise BadInput(f"noise={noise!r} can't be used with resampled particles. Wanted: noise='iid'.")
        run = Run(model, guide, args, kwargs, request, enumeration)
        return in_steps(run, num_particles, resample, checked)
    one = functools.partial(draw_one, model, guide, args, kwargs, request, **enumeration)
    noises = functools.partial(contexts, request.noise(noise), num_particles)
    if num_particles >= FEW and not request.fields & MORE_RUNS and get_proxy_mode() is None:  # a tracer sees no values
        return side_by_side(one, noises)
    drawn = []
    for together in noises():
        with together:
            drawn.append(one())
    return stacked(drawn)


def draw_one(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    request: Request,
    **enumeration: Any,
) -> Particles:
    """One particle; its fields lack the leading K."""
    run = checked(Run(model, guide, args, kwargs, request, enumeration))
    return Particles(**{name: field(run) for name, field in FIELDS.items() if name in request.fields})


def checked(run: Run) -> Run:
    """A run that meets all requirements.

    Raises:
        Unsuitable: Something does not.
    """
    request = run.request
    asked = request.requires | ({"all_drawn"} if request.fields & OF_DRAWS else set())
    asked |= {"all_drawn", "path"} if request.fields & OF_NUMBERS else set()
    for requirement, check in CHECKS.items():
        if requirement in asked:
            check(run)
    return run


MORE_RUNS = frozenset({"latents", "weigh", "densities", "steps", "enumerated"})
"""Fields for which model and guide are run several times."""

OF_DRAWS = frozenset({"kl", "scored", "terms", "steps", "latents", "weigh", "sleep_log_q"})
"""Fields that need draws of all latents; in log-densities, sites that the model sums out are summed out."""


def stacked(drawn: Sequence[Particles]) -> Particles:
    """Stacks K particles, whose fields lack the leading K."""
    names = list(vars(drawn[0]))
    return Particles(**{name: JOINED.get(name, torch.stack)([getattr(d, name) for d in drawn]) for name in names})


def _first(values: Sequence[Any]) -> Any:
    return values[0]


def _latents(of_each: Sequence[tuple[Latent, ...]]) -> tuple[Latent, ...]:
    return tuple(
        Latent(
            same[0].name,
            same[0].family,
            {name: torch.stack([s.parameters[name] for s in same]) for name in same[0].parameters},
            torch.stack([s.value for s in same]),
        )
        for same in zip(*of_each, strict=True)
    )


def _weigh(of_each: Sequence[Callable[..., tuple[Tensor, Tensor]]]) -> Callable[..., tuple[Tensor, Tensor]]:
    def weigh(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        log_p, log_q = zip(*(one([v[k] for v in values]) for k, one in enumerate(of_each)), strict=True)
        return torch.stack(log_p), torch.stack(log_q)

    return weigh


def _densities(of_each: Sequence[Callable[[Tensor], tuple[Tensor, Tensor]]]) -> Callable[..., tuple[Tensor, Tensor]]:
    def densities(z: Tensor) -> tuple[Tensor, Tensor]:
        log_p, log_q = zip(*(one(z) for z, one in zip(z, of_each, strict=False)), strict=True)
        return torch.stack(log_p), torch.stack(log_q)

    return densities


JOINED: dict[str, Callable[[list[Any]], Any]] = {
    "scale": _first,
    "local": _first,
    "closed_form": _first,
    "kl": lambda values: torch.stack(values).mean(0),
    "scored": stacked_records,
    "terms": stacked_records,
    "latents": _latents,
    "weigh": _weigh,
    "densities": _densities,
}
"""Field of `Particles` → how to combine K of them, if they are not simply stacked."""
