"""Chooses a guide that is rich enough: a normal, or a flow if the diagnosis says that the normal's draws should not be used as they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ..errors import NonFinite
from ..estimators import STL, Enumerated
from ..estimators.suits import of_elbo
from ..guides import Flow, Whitened, starts
from ..guides.curvature import Place
from ..guides.richer import richer
from ..pair.pair import Pair
from ..training.autosave import Autosave
from ..training.budget import Budget
from ..training.callbacks import OF_CALLBACK, Callback, with_fit
from ..training.history import History
from ..training.result import Fit
from ..training.until_converged import until_converged
from .diagnose import diagnose
from .diagnosis import Diagnosis

DRAWS = 16  # particles in each step, as a flow takes longest to average out their noise
RATE = 0.01  # learning rate of a flow's first phase, in coordinates in which the posterior is roughly standard normal
BETTER = {"bad": 0, "reweight": 1, "good": 2}


def climb(
    start: Fit,
    *,
    max_steps: int | None = None,
    max_seconds: float | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    rate: float | None = None,
    autosave: Autosave | None = None,
    kept: dict[str, Any] | None = None,
) -> Fit:
    """Fits a normal; and a flow if the diagnosis says that the normal's draws can't be used, weighted or not. Returns the better of the two.

    Args:
        start: A fit of zero steps with the guide "auto", at its start.
        max_steps, max_seconds: Limits for both together; see `Budget`.
        callbacks, progress: As for `fit`.
        rate: Learning rate of the normal's first phase, if it needs steps.
        autosave: Saves the normal while it runs, and finally the better of the two; the flow is saved to a second file.
        kept: Contents of that file, when continuing an earlier run.

    Returns:
        The fit, with its `diagnosis`, and in `tried` how good each guide was.

    Raises:
        NonFinite: As for `until_converged`, of the normal. If the flow becomes NaN or infinite, the normal is kept.
    """
    began, budget = time.perf_counter(), Budget.of(max_steps, max_seconds)
    options: dict[str, Any] = {"callbacks": callbacks, "progress": progress}
    kept, beside = kept or {}, autosave and autosave.beside
    best = start
    if not kept.get("behind"):
        limits: dict[str, Any] = {"max_steps": max_steps, "max_seconds": max_seconds, "autosave": autosave}
        best = until_converged(start, rate=rate, at=kept.get("schedule"), last=False, **limits, **options)
    known = _judged(best)
    tried: list[tuple[str, str]] = [("normal", known.trust)]
    steps, seconds = budget.steps - best.steps, budget.seconds - (time.perf_counter() - began)
    flow: Fit | None = None
    raised: Any = None
    if known.trust == "bad" and steps > 0 and seconds > 0 and not best.interrupted and _can_bend(best):
        try:
            flow, told = bent(best), dict[str, Any]()
            if beside:
                flow, told = beside.begin(flow, finds=lambda fit, told: fit)
            if not told.get("finished"):
                limits = {"max_steps": steps, "max_seconds": seconds, "autosave": beside}
                flow = until_converged(flow, rate=RATE, at=told.get("schedule"), **limits, **options)
        except Exception as error:
            if hasattr(error, OF_CALLBACK):  # the flow so far may be no better than the normal
                flow, raised = error.fit, error  # type: ignore[attr-defined]
            elif isinstance(error, NonFinite):
                flow = None
                tried.append(("flow", "became NaN or infinite"))
            else:
                raise
        if flow is not None:
            found = _judged(flow)
            tried.append(("flow", found.trust))
            if _rank(found) > _rank(known):
                best, known = flow, found
    interrupted = best.interrupted or (flow is not None and flow.interrupted)
    reached = replace(best, tried=tuple(tried), interrupted=interrupted)
    then = richer(best.pair.guide, [name for name, _ in tried])
    reached.__dict__["_diagnosis"] = replace(known, guide=reached.guide, richer=then)
    if raised is not None:
        raise with_fit(raised, reached)
    if autosave and beside and not interrupted:
        autosave.keep(reached, finished=True, guide="flow" if isinstance(best.pair.guide, Flow) else "", tried=tried)
        beside.remove()
    return reached


def bent(fit: Fit) -> Fit:
    """A fit of zero steps whose guide is a flow, initialised to the normal of another fit; the model's parameters are kept."""
    guide: Any = fit.pair.guide
    with fit.pair.scope(), torch.no_grad():
        q = guide.get_posterior()
        root = q.scale_tril if hasattr(q, "scale_tril") else q.stddev
        place = Place(q.mean.double(), root.double(), float("nan"), float("nan"))
    flow = Flow(fit.pair.model, start=starts.at(place, guide.places.others))
    pair = Pair(fit.pair.model, flow, name=fit.pair.name)
    batch = fit.data.batch(pair.model)
    pair.initialise(batch)
    names = set(pair.parameters)
    pair.load({name: value for name, value in fit.pair.state().items() if name in names})
    method = of_elbo(pair, batch, DRAWS)
    method = method if isinstance(method, Enumerated) else STL(DRAWS)
    progress = replace(fit.progress, optimizer=None)  # it belongs to the normal's parameters
    return replace(fit, pair=pair, estimator=method, rows=History(), convergence=None, progress=progress)


def _can_bend(fit: Fit) -> bool:
    """Whether a flow can improve on a normal: not with a single latent."""
    return isinstance(fit.pair.guide, Whitened) and len(fit.pair.guide.centre) > 1


def _judged(fit: Fit) -> Diagnosis:
    return diagnose(fit, seed=fit.seed, device=str(fit.pair.device))


def _rank(found: Diagnosis) -> tuple[int, float]:
    return BETTER[found.trust], found.effective / max(found.draws, 1)
