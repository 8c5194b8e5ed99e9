"""Draws K particles together, step by step, with resampling by their weights in between."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from ..errors import BadEstimator, Unsuitable
from ..pair.sites import Layout, latents
from ..validation import vmap
from .base_noise import Draw, Intercept
from .gammas import FROM_NOISE
from .latents import as_rows
from .order import steps_of
from .partial_run import PartialRun
from .particles import Particles, SiteTerm, Step, stacked_records
from .run import Run
from .side_by_side import Cost

Resample = Callable[[Tensor], tuple[Tensor, Tensor] | None]
"""(K, *local) log-weights → (K, *local) indices of the particles to continue from, and the log-weights to continue with; or None to continue without resampling."""


def in_steps(run: Run, num_particles: int, resample: Resample | None, checked: Callable[[Run], object]) -> Particles:
    """Model and guide are run again for each step and particle, up to the end of the step, at the values that the particle continues from, so that their own variables, such as a
    state or the whole past, follow from these values. T steps therefore cost T² / 2 steps of Python's time here; a captured program contains only what
    the last step of each run depends on, and all particles in parallel.

    Args:
        run: The run of one particle, which only determines what the steps are.
        num_particles: K.
        resample: Called between two steps.
        checked: Raises an error if the run does not meet a requirement.

    Raises:
        Unsuitable: The model has a latent that the guide lacks, or sites differ between runs.
    """
    with (middle := _Middle(_middle)), Cost() as cost:
        checked(run)
        q, p = run.traces
    _check_all_in_guide(q, p)
    layout, plan = run.layout, steps_of(q, p)
    # A program is compared with the same particles one by one, in which draws not made from base noise come in a different order.
    together = get_proxy_mode() is not None and not cost.draws and not middle.others
    values: dict[str, Tensor] = {}
    log_w, steps = layout.total([]).expand(num_particles, *layout.total([]).shape), []
    for number, step in enumerate(plan):
        drawn, terms = _all(PartialRun(run, step), values, num_particles, together=together)
        values |= drawn
        log_w = torch.stack([log_w, *(term.log_p - term.log_q for term in terms)]).sum(0)
        chosen = resample(log_w) if resample and number + 1 < len(plan) else None
        ancestors, after = _require_shapes(chosen, log_w) if chosen is not None else (None, log_w)
        steps.append(Step(terms, log_w, ancestors))
        log_w = after
        if ancestors is not None:
            values = {name: _taken(value, ancestors, layout, q.nodes[name]["fn"]) for name, value in values.items()}
    return Particles(steps=tuple(steps), scale=layout.scale, local=tuple(frame.size for frame in layout.local))


def _require_shapes(chosen: Any, log_w: Tensor) -> tuple[Tensor, Tensor]:
    tensors = isinstance(chosen, tuple) and len(chosen) == 2 and all(isinstance(part, Tensor) for part in chosen)
    if not tensors or any(part.shape != log_w.shape for part in chosen) or chosen[0].dtype != torch.long:
        got = [(tuple(p.shape), p.dtype) for p in chosen] if tensors else type(chosen).__name__
        raise BadEstimator(
            f"resample returned {got}. Wanted: two tensors of the shape of the log-weights, {tuple(log_w.shape)}: the indices of the particles to continue from, integers from 0 to "
            f"{len(log_w) - 1}, and the log-weights to continue with; or None."
        )
    return chosen


class _Middle(Intercept):
    """Answers with the median of the base noise, and records draws that use more than one number each."""

    others = False

    def _answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        self.others |= func in FROM_NOISE
        return super()._answer(func, args, kwargs)


def _middle(kind: str, like: Tensor) -> Tensor:
    return torch.full_like(like, 0.0 if kind == "normal" else 0.5)


def _taken(values: Tensor, ancestors: Tensor, layout: Layout, fn: Any) -> Tensor:
    """Selects the (K, ...) values of a site that belong to (K, *local) ancestors."""
    arrange, restore = as_rows(layout, values[0], fn.event_dim)
    places = ancestors.unsqueeze(-1).expand(len(values), *arrange(values[0]).shape)
    return values.gather(0, vmap(restore)(places))


def _all(
    partial: PartialRun, values: dict[str, Tensor], num_particles: int, *, together: bool
) -> tuple[Any, tuple[Any, ...]]:
    """(K, ...) values and terms of a step of K particles.

    Args:
        values: (K, ...) values of the earlier steps.
        together: Whether to run the particles in parallel, if torch can.
    """
    noise, like = _Noise(num_particles), list[SiteTerm]()

    def one(k: Any, known: dict[str, Tensor], *, in_place: bool) -> tuple[dict[str, Tensor], list[SiteTerm]]:
        drawn, terms = partial(known, noise.of(k, in_place=in_place))
        like[:] = terms
        return drawn, terms

    def mapped(k: Tensor, known: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        drawn, terms = one(k, known, in_place=False)
        return drawn, [getattr(term, part) for term in terms for part in SiteTerm.PARTS]

    if together:
        with suppress(Exception):  # anything that the model's own code raises on vmap's tensors
            numbers = torch.arange(num_particles, device=partial.device)
            drawn, parts = vmap(mapped, randomness="different")(numbers, values)
            left = iter(parts)
            return drawn, tuple(replace(term, **{part: next(left) for part in SiteTerm.PARTS}) for term in like)
    each = [one(k, {name: value[k] for name, value in values.items()}, in_place=True) for k in range(num_particles)]
    made = {name: torch.stack([drawn[name] for drawn, _ in each]) for name in each[0][0]}
    return made, stacked_records([tuple(terms) for _, terms in each])


class _Noise:
    """Base noise for a step of K particles, drawn for all of them at the first call.

    Attributes:
        drawn: (K, ...) for each call.
    """

    def __init__(self, num_particles: int) -> None:
        self._count, self.drawn = num_particles, list[Tensor]()

    def of(self, k: int | Tensor, *, in_place: bool) -> Intercept:
        """Context with the noise of particle k, over which `vmap` may map."""
        places = itertools.count()

        def answer(kind: str, like: Tensor) -> Tensor:
            draw, place = Draw.like(kind, like), next(places)
            if place == len(self.drawn):
                self.drawn.append(replace(draw, shape=(self._count, *draw.shape)).fresh(like.device))
            mine = self.drawn[place]
            if mine.shape[1:] != like.shape:  # sites differ between runs, which is reported elsewhere
                return draw.fresh(like.device)
            return mine[k] if isinstance(k, int) else mine.index_select(0, k.view(1)).squeeze(0)

        return Intercept(answer, in_place=in_place)


def _check_all_in_guide(q: Trace, p: Trace) -> None:
    if missing := [site["name"] for site in latents(p) if site["name"] not in q]:
        raise Unsuitable(
            f"The guide lacks {', '.join(map(repr, missing))} of the model, which can't be weighted then. Wanted: every latent of the model in the guide."
        )
