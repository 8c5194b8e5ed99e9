"""Runs guide and model up to the end of a step, at known values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor

from ..errors import Unsuitable
from ..pair.modules import buffers_stay
from ..pair.sites import kind, latents
from .base_noise import Intercept
from .given import Given
from .order import Stretch, site_terms
from .particles import SiteTerm
from .run import Run


class PartialRun:
    """A step of one particle, without the leading K: known values → the values that it draws, and its terms.

    Args:
        run: The run to repeat; its subsampled rows are used again.
        step: The sites of the step.

    Attributes:
        device: The device of its numbers.
    """

    def __init__(self, run: Run, step: Stretch) -> None:
        self._run, self._step = run, step
        self.device = run.layout.total([]).device
        q, _ = run.traces
        shown = [s for s in q.nodes.values() if s["type"] == "sample" and kind(s) == "subsample"]
        self._rows: dict[str, Any] = {str(site["name"]): site["value"] for site in shown}

    def __call__(self, known: Mapping[str, Tensor], noise: Intercept) -> tuple[dict[str, Tensor], list[SiteTerm]]:
        run, step, given = self._run, self._step, self._rows | dict(known)
        with buffers_stay():
            q = _until(lambda: run.guide(*run.args, **run.kwargs), step.drawn, given, noise)
            drawn: dict[str, Any] = {site["name"]: site["value"] for site in latents(q) if site["name"] in step.drawn}
            p = _until(lambda: run.model(*run.args, **run.kwargs), step.reached, given | drawn, noise)
            return drawn, list(site_terms(step, q, p, run.layout))


def _until(fn: Callable[[], object], wanted: Collection[str], known: Mapping[str, Tensor], noise: Intercept) -> Trace:
    """Runs until the first site after the wanted ones.

    Raises:
        Unsuitable: The run did not reach all of them.
    """
    with suppress(_Enough), TraceMessenger() as tracer, _Draws(set(wanted), noise), Given(known):
        fn()
    found = tracer.trace
    if missing := [name for name in wanted if name not in found]:
        raise Unsuitable(
            f"Site{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))} occurred in one run but not in another. Resampling particles needs the same sites in "
            "every run, in the same order. Use vb.IWAE() or vb.VIMCO()."
        )
    return found


class _Enough(Exception):
    """Ends a run."""


class _Draws(Messenger):
    """Draws the wanted sites, and ends a run at the first one after them.

    Args:
        wanted: Their names.
        noise: The base noise for their draws. It is active only for these sites, as doing so for a whole run would double its time.
    """

    def __init__(self, wanted: set[str], noise: Intercept) -> None:
        super().__init__()
        self._left, self._noise = wanted, noise

    def _pyro_sample(self, msg: Any) -> None:
        if kind(msg) in ("subsample", "deterministic"):
            return
        if not self._left:
            raise _Enough
        self._left.discard(msg["name"])
        if not msg["done"] and not msg["is_observed"]:
            with self._noise:
                msg["value"], msg["done"] = msg["fn"](*msg["args"], **msg["kwargs"]), True
