"""Several fits of one pair from several starts, side by side in one loop."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from .. import rng
from ..errors import CaptureFailed, NonFinite
from ..pair.initial_values import another_start
from ..progress import bar, between_steps
from ..staging.loop import Loop, Part, run_loops
from ..summaries.card import Card, Displayable, counted, rounded, with_error
from ..validation import no_warnings_of_nan, validation
from .fit import INTERVAL, Callback, train
from .optimizer import optimizer_for
from .result import Fit, Progress
from .steps import WORTH, Order, Staged

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TAIL = 10  # a fit's ELBO is its mean over the last of so many parts of the steps


@dataclass(frozen=True, repr=False)
class Restarts(Displayable):
    """Several fits of one pair, each from a start and with draws of its own.

    Attributes:
        fits: In the order of their starts; the first is what a single fit would have been, up to rounding. One that left the
            reals ends before the others.
        steps: That each of them was to take.
    """

    fits: tuple[Fit, ...]
    steps: int

    @property
    def best(self) -> Fit:
        """The fit with the highest ELBO at its end, of those that got there."""
        table = self.to_dataframe()
        return self.fits[int(table.restart[table.best].iloc[0])]

    @property
    def spread(self) -> float:
        """Standard deviation between the fits of the ELBO per datum at their ends, in nats."""
        return float(self.to_dataframe().elbo_per_datum.std())

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each fit: restart (from 0), seed, steps, elbo (nats, mean of the last tenth of the steps), its standard error
        elbo_se, elbo_per_datum, finished (whether it stayed in the reals), best."""
        longest = max(fit.steps for fit in self.fits)
        rows = []
        for number, fit in enumerate(self.fits):
            tail = fit.history.elbo.tail(max(1, fit.steps // TAIL))
            elbo = float(tail.mean()) if fit.steps else float("nan")
            rows.append(
                {
                    "restart": number,
                    "seed": fit.seed,
                    "steps": fit.steps,
                    "elbo": elbo,
                    "elbo_se": float(tail.sem()) if len(tail) > 1 else float("nan"),
                    "elbo_per_datum": elbo / len(fit.data),
                    "finished": fit.steps == (longest if fit.interrupted else self.steps),
                }
            )
        table = pd.DataFrame(rows)
        winner = table.elbo.where(table.finished).idxmax() if (table.finished & table.elbo.notna()).any() else 0
        return table.assign(best=table.index == winner)

    def card(self) -> Card:
        """The best of the fits, and how far apart they end."""
        table, first = self.to_dataframe(), self.fits[0]
        best, rows = table[table.best].iloc[0], len(first.data)
        found = (
            ("fits", f"{len(self.fits)}, of which {int(table.finished.sum())} finished"),
            ("steps", counted(self.steps, "step") + " each"),
            ("best", f"restart {best.restart}: {with_error(best.elbo / rows, best.elbo_se / rows)} nats a datum"),
            ("spread", f"{rounded(self.spread, 3)} nats a datum between the fits"),
        )
        return Card(f"Restarts: {first.pair.name} on {first.data.name}", found)

    def to_arviz(self, data: Any = None, *, draws: int = 1000, **options: Any) -> Any:
        """As `vb.to_arviz` of one fit, with a chain for each: R-hat then tells whether the starts led to one posterior."""
        from ..export.to_arviz import to_arviz

        return to_arviz(self.fits, data, draws=draws, **options)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The ELBO per datum of each fit against steps, the best one in colour."""
        from matplotlib import pyplot

        from ..plots import restarts

        if ax is None:
            _, ax = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
        return restarts([fit.history for fit in self.fits], self.fits.index(self.best), ax)


def fit_restarts(first: Fit, count: int, steps: int, *, show: bool, callbacks: Sequence[Callback]) -> Restarts:
    """`count` fits like `first`, which has taken no steps yet."""
    batch = first.data.batch(first.pair.model)
    fits = [first]
    for number in range(1, count):
        seed = rng.stream(first.seed, number).initial_seed() % 2**32
        with rng.seeded(seed):
            start = Progress(rng.get_state())
        fits.append(replace(first, pair=another_start(first.pair, batch, seed), seed=seed, progress=start))
    if steps and (first.compile is True or (first.compile == "auto" and steps * count >= WORTH)):
        try:
            return _together(fits, steps, show=show, callbacks=callbacks)
        except CaptureFailed:  # the fits will say why
            pass
    reached: list[Fit] = []
    for fit in fits:
        reached.append(_alone(fit, steps, show=show, callbacks=callbacks))
        if reached[-1].interrupted:
            break
    return _checked(Restarts(tuple(reached), steps))


def _checked(restarts: Restarts) -> Restarts:
    if not restarts.to_dataframe().finished.any():
        last = max(restarts.fits, key=lambda fit: fit.steps)
        raise NonFinite(
            f"None of {len(restarts.fits)} fits of pair {last.pair.name!r} stayed in the real numbers; the last one left them after "
            f"{last.steps} of {restarts.steps} steps. Common mends: a smaller learning_rate, a scale bounded away from 0. "
            "A fit without restarts= names the site.",
            step=last.steps + 1, sites=(), fit=last,
        )  # fmt: skip
    return restarts


def _alone(fit: Fit, steps: int, *, show: bool, callbacks: Sequence[Callback]) -> Fit:
    try:
        return train(fit, steps, show=show, callbacks=callbacks)
    except NonFinite as error:
        assert error.fit is not None
        return error.fit


def _together(fits: list[Fit], steps: int, *, show: bool, callbacks: Sequence[Callback]) -> Restarts:
    engines: list[Staged] = []
    steppers = []
    with validation(False), no_warnings_of_nan():
        for fit in fits:
            with fit.pair.scope():
                stepper = optimizer_for(fit.pair.leaves, fit.optimizer, fit.learning_rate)
                order = Order(fit.data, fit.batch_size, fit.seed)
                shared = engines[0] if engines else None
                engine = Staged(fit.pair, fit.estimator, fit.data, order, stepper, 0, fit.seed, shared)
            if engine.state is None or not all(program.static for program in engine.programs.values()):
                raise CaptureFailed("This optimiser, or these random numbers, have no pure form.")
            engines.append(engine)
            steppers.append(stepper)
        rows, interrupted = _loop(fits, engines, steps, show=show, callbacks=callbacks)
        reached = []
        for fit, engine, stepper, history in zip(fits, engines, steppers, rows, strict=True):
            with fit.pair.scope():
                engine.finish()
                progress = Progress(fit.progress.generator, True, stepper.get_state())
            reached.append(replace(fit, rows=tuple(history), interrupted=interrupted, progress=progress))
    return _checked(Restarts(tuple(reached), steps))


def _loop(
    fits: list[Fit], engines: list[Staged], steps: int, *, show: bool, callbacks: Sequence[Callback]
) -> tuple[list[list[Any]], bool]:
    """The histories of all fits, and whether they were interrupted."""
    like = engines[0].state
    assert like is not None
    flat = [torch.stack(tensors) for tensors in zip(*(e.state.flat() for e in engines if e.state), strict=True)]
    state = like.filled(flat)
    loops: dict[int | None, Loop] = {}
    rows: list[list[Any]] = [[] for _ in fits]
    order, total = Order(fits[0].data, fits[0].batch_size, fits[0].seed), len(fits[0].data)
    done, pace, start, ended, interrupted = 0, 1, time.perf_counter(), 0.0, False
    with (
        fits[0].pair.scope(),
        bar(f"{len(fits)} fits", steps, show=show) as advance,
        between_steps() as asked_to_stop,
    ):
        while done < steps and not interrupted:
            every = [engine.upcoming(min(pace, steps - done)) for engine in engines]
            parts = []
            for same in zip(*(stretches for stretches, _ in every), strict=True):
                first = same[0]
                if first.size not in loops:
                    loops[first.size] = engines[0].loop(first.program, first.size, len(fits))
                normals, uniforms = (torch.stack([s.noise[kind] for s in same], 1) for kind in (0, 1))
                indices = [s.index for s in same if s.index is not None]
                index = torch.stack(indices, 1) if indices else None
                parts.append(Part(loops[first.size], (normals, uniforms), index, first.columns))
            state, values = run_loops(state, parts, every[0][1])
            began, ended = ended, time.perf_counter() - start
            finite, fresh = values.isfinite(), []
            for number, (engine, history) in enumerate(zip(engines, rows, strict=True)):
                elbos = values[:, number][finite[:, number]].tolist()
                for i, (step, elbo) in enumerate(zip(itertools.count(len(history) + 1), elbos, strict=False), start=1):
                    seconds = began + (ended - began) * i / len(values)
                    history.append((step, order.epoch(step), elbo, elbo / total, seconds))
                engine.advance(len(values))
                fresh.append(history[len(history) - len(elbos) :])
            if not len(values):  # none of them has a next step
                break
            done += len(values)
            pace = max(1, min(2 * pace, int(pace * INTERVAL / max(ended - began, 1e-6))))
            alive = int(finite[-1].sum())
            best = max(history[-1][3] for history in rows if history)
            advance(done, functools.partial("best ELBO per datum {:.4g}, {} going on".format, best, alive))
            try:
                for callback, taken in itertools.product(callbacks, fresh):
                    if taken:
                        callback(taken)
            except KeyboardInterrupt:
                interrupted = True
            interrupted = interrupted or asked_to_stop()
    for number, engine in enumerate(engines):
        engine.state = like.filled([tensor[number] for tensor in state.flat()])
    return rows, interrupted
