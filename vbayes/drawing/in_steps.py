"""K particles drawn together, step by step, and chosen anew by their weights in between."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

import torch
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor

from ..errors import Unsuitable
from ..pair.modules import buffers_stay
from ..pair.sites import kind, latents
from .given import Given
from .latents import as_rows
from .order import Stretch, site_terms, steps_of
from .particles import Particles, Step, stacked_records
from .run import Run

Resample = Callable[[Tensor], tuple[Tensor, Tensor] | None]
"""(K, *local) log-weights → (K, *local) whom each particle goes on from, and the log-weights that it goes on with; or None: all go on as they are."""


def in_steps(run: Run, num_particles: int, resample: Resample | None) -> Particles:
    """Model and guide are run anew for each step and particle, up to its end, on the values that the particle has gone on from: what they hold in variables of their own, a
    state or all that came before, then follows from these. So T steps cost T² / 2 of them here, which is Python's time; in a captured program nothing stays of a run but what
    its last step depends on.

    Args:
        run: Of one particle, which says what the steps are, and whose first step is that of the first particle.
        num_particles: K.
        resample: Is asked between two steps.

    Raises:
        Unsuitable: The model has a latent that the guide lacks, or sites come and go.
    """
    q, p = run.traces
    _check_all_in_guide(q, p)
    layout, plan = run.layout, steps_of(q, p)
    rows: dict[str, Any] = {
        name: site["value"] for name, site in q.nodes.items() if site["type"] == "sample" and kind(site) == "subsample"
    }
    values: list[dict[str, Tensor]] = [{} for _ in range(num_particles)]
    log_w, steps = layout.total([]).expand(num_particles, *layout.total([]).shape), []
    for number, step in enumerate(plan):
        each = []
        for k, known in enumerate(values):
            of_q, of_p = (q, p) if number == k == 0 else _further(run, step, rows | known)
            known.update({site["name"]: site["value"] for site in latents(of_q) if site["name"] in step.drawn})
            each.append(tuple(site_terms(step, of_q, of_p, layout)))
        terms = stacked_records(each)
        log_w = torch.stack([log_w, *(term.log_p - term.log_q for term in terms)]).sum(0)
        chosen = resample(log_w) if resample and number + 1 < len(plan) else None
        steps.append(Step(terms, log_w, chosen[0] if chosen else None))
        if chosen:
            ancestors, log_w = chosen
            for name in values[0]:
                fn: Any = q.nodes[name]["fn"]
                arrange, restore = as_rows(layout, values[0][name], fn.event_dim)
                before = torch.stack([arrange(known[name]) for known in values])
                after = before.gather(0, ancestors.unsqueeze(-1).expand_as(before))
                for known, value in zip(values, after, strict=True):
                    known[name] = restore(value)
    return Particles(steps=tuple(steps), scale=layout.scale, local=tuple(frame.size for frame in layout.local))


def _check_all_in_guide(q: Trace, p: Trace) -> None:
    if missing := [site["name"] for site in latents(p) if site["name"] not in q]:
        raise Unsuitable(
            f"The guide lacks {', '.join(map(repr, missing))} of the model, which then has no weight. Wanted: every latent of the model in the guide."
        )


def _further(run: Run, step: Stretch, known: Mapping[str, Tensor]) -> tuple[Trace, Trace]:
    """Guide and model on known values, to the end of a step."""
    with buffers_stay():
        q = _until(lambda: run.guide(*run.args, **run.kwargs), step.drawn, known)
        drawn: dict[str, Any] = {name: q.nodes[name]["value"] for name in step.drawn}
        p = _until(lambda: run.model(*run.args, **run.kwargs), step.reached, {**known, **drawn})
    return q, p


def _until(fn: Callable[[], object], wanted: Collection[str], known: Mapping[str, Tensor]) -> Trace:
    """A run that ends before the first site that comes after those which are wanted.

    Raises:
        Unsuitable: It did not come to all of them.
    """
    with suppress(_Enough), TraceMessenger() as tracer, _Stop(set(wanted)), Given(known):
        fn()
    found = tracer.trace
    if missing := [name for name in wanted if name not in found]:
        raise Unsuitable(
            f"Site{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))} came in one run and not in another. Particles that are chosen anew on the way need the same sites in "
            "every run, in the same order. Use vb.IWAE() or vb.VIMCO()."
        )
    return found


class _Enough(Exception):
    """Ends a run."""


class _Stop(Messenger):
    """Ends a run at the first site after the wanted ones."""

    def __init__(self, wanted: set[str]) -> None:
        super().__init__()
        self._left = wanted

    def _pyro_sample(self, msg: Any) -> None:
        if kind(msg) in ("subsample", "deterministic"):
            return
        if not self._left:
            raise _Enough
        self._left.discard(msg["name"])
