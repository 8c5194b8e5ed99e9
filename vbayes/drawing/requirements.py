"""Requirements on a guide's sites, checked on a run."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import Unsuitable
from ..pair.sites import has_path, sites, summed_out
from ..pair.subsample import subsample
from .run import Run


def path(run: Run) -> None:
    q, _ = run.traces
    if without := [s["name"] for s in sites(q) if not has_path(s)]:
        raise Unsuitable(
            f"Site{'s' * (len(without) > 1)} {', '.join(map(repr, without))} of the guide {'have' if len(without) > 1 else 'has'} no "
            "reparameterised path (`has_rsample` is false), which this estimator needs. Use vb.Trace(), vb.RaoBlackwell(), "
            "vb.RLOO() or vb.VIMCO(), or give the site a reparameterised distribution."
        )


def closed_form_kl(run: Run) -> None:
    q, _ = run.traces
    if without := [s["name"] for s in sites(q) if s["name"] not in run.closed_form_kls]:
        raise Unsuitable(
            f"Site{'s' * (len(without) > 1)} {', '.join(map(repr, without))} of the guide {'have' if len(without) > 1 else 'has'} no KL in closed form, "
            "which this estimator needs. Use vb.AnalyticKL(), which samples such sites."
        )


def same_rows(run: Run) -> None:
    part = subsample(*run.traces)
    if part and (part.anew or not part.alike):
        raise Unsuitable(
            f"{part}, and this estimator compares particles: particles of different rows, or weights with a factor N/M, give a different bound, which "
            "may lie above log p(x). Use vb.Trace() or another estimator of the ELBO, or let the model take its plate's size from its data and leave minibatches to "
            "vb.fit(batch_size=...)."
        )


def all_drawn(run: Run) -> None:
    if names := summed_out(*run.traces):
        raise Unsuitable(
            f"The guide does not have {', '.join(map(repr, names))} (the model marks {'it' if len(names) == 1 else 'them'} for enumeration, or the guide was made automatically): this estimator "
            f"would draw {'it' if len(names) == 1 else 'them'} from the prior, whatever the data. Use vb.Enumerated() or pyro.infer.TraceEnum_ELBO(), which sum over all values, or "
            f"a guide with pyro.sample({names[0]!r}, ...)."
        )


CHECKS: dict[str, Callable[[Run], None]] = {
    "all_drawn": all_drawn, "path": path, "closed_form_kl": closed_form_kl, "same_rows": same_rows,
}  # fmt: skip
"""Requirement → function that raises `Unsuitable` if it is not met. The other `REQUIREMENTS` determine how to draw, and are always met."""
