"""Training races: learning curves of several estimators from the same start, by steps and by time."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro.infer import ELBO

from .. import rng
from ..arguments.kind import Anything, Either, Mapped, Optional, Several
from ..arguments.names import SOME
from ..arguments.takes import takes
from ..arguments.whole import ROW, SEED, Whole
from ..data.dataset import Dataset
from ..errors import BadInput
from ..estimators.base import Estimator
from ..pair.check import require_parameters
from ..pair.pair import Pair
from ..pair.paired import Model
from ..pair.problem import Problem
from ..progress import bar, between_steps
from ..staging import Compiled
from ..staging.backends import Compile, backend_of, require_backend
from ..summaries.ranking import Entry
from ..training.engine import settled
from ..training.fit import fit
from ..training.fit_run import FitRun, Progress
from .against_posterior import AgainstPosterior
from .compare import SEVERAL_ESTIMATORS, suitable
from .evaluator import Evaluator
from .race_result import Race
from .turns import turns

Runs = dict[tuple[str, int], FitRun]


@takes(
    estimators=Optional(SEVERAL_ESTIMATORS),
    objectives=Optional(SEVERAL_ESTIMATORS),
    reference=Optional(Mapped(Anything())),
    seeds=Either(SOME, Several(SEED)),
    steps=Optional(Whole(1, each=ROW)),
)
def race(
    pair: Model,
    data: Any = None,
    estimators: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    objectives: Sequence[Any] | Mapping[str, Any] | None = None,
    reference: Mapping[str, Any] | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    seeds: int | Sequence[int] = 3,
    batch_size: int | None = None,
    optimizer: Any = torch.optim.Adam,
    learning_rate: float | None = None,
    evaluations: int = 20,
    device: str = "auto",
    compile: Compile = "auto",
    progress: bool = True,
) -> Race:
    """Trains a pair with several estimators from the same start, and records how the ELBO rises with steps and with time.

    Each estimator runs once for each seed, as `vb.fit` with that seed would. The runs take turns, some steps at a time, in rotating
    order, so that a busy machine affects all of them equally. Only the time of the steps is counted, without compilation before the
    first step and without evaluations of the ELBO. All runs are evaluated in the same way: by the pair's exact ELBO, or else by an estimate from the same rows
    and the same draws. Estimators of other bounds are compared by the ELBO too.

    To compare different objectives, the ELBO is not a fair measure, as one of them maximises it. With `objectives=`, each evaluation also records how far q is from the
    posterior: KL(q ‖ p) and KL(p ‖ q), the errors of means and sds, and the effective number of q's draws; `Race.verdict` compares these.

    Ctrl-C stops the race; the result then covers what all runs have completed.

    Args:
        pair: Model and guide; never changed. All runs start at its initial parameters.
        data: As for `fit`.
        estimators: Names or objects, or a mapping from your own names to those; if None, the default ones that suit the pair.
        objectives: Instead of `estimators`, estimators of different objectives, such as
            ["stl", vb.IWAE(8), vb.CUBO(), vb.TailAdaptive()].
        reference: With `objectives`: draws from the true posterior, site → (S, ...), for a pair with too many latents for a table.
        steps: Number of optimiser steps of each run; or
        seconds: time of each run in seconds. 1000 steps if neither is given.
        seeds: Seeds for the draws and the order of the data: a number of seeds (0, 1, …, or seeds derived from `vb.default_seed()` if that is not 0), or a list of them.
        batch_size, optimizer, learning_rate, device, compile: As for `fit`; with `seconds`, compile="auto" compiles.
        evaluations: E, the number of evaluations of the ELBO after the one at the start; the k-th is after (k/E)² of the run, as the ELBO changes most at first.
        progress: Whether to show a progress bar.

    Raises:
        Unsuitable: A requested estimator can't be used with this pair.
        BadInput: As for `fit`.

    Examples:
        >>> result = vb.race(pair, vb.data.digits(), ["pathwise", "stl"], steps=2000, batch_size=100, learning_rate=1e-3)
        >>> print(result.verdict())
        >>> result.plot()
        >>> print(vb.race(pair, x, objectives=["stl", vb.IWAE(8), vb.CUBO()], seconds=2).verdict())
    """
    if estimators is not None and objectives is not None:
        raise BadInput("Both estimators= and objectives= were given. Wanted: only one of them.")
    if reference is not None and objectives is None:
        raise BadInput(
            "reference= was given without objectives=, to which it belongs. Wanted: objectives=[...] instead of estimators."
        )
    numbers = _seeds(seeds)
    goals = _goals(steps, seconds, evaluations)
    require_backend(compile)
    problem = Problem.of(pair, data, batch_size=batch_size, device=device)
    pair, dataset = problem.pair, problem.data
    methods = suitable(pair, problem.first, estimators if objectives is None else objectives)
    require_parameters(pair)
    how = settled(compile, math.inf if seconds is not None else goals[-1][0])
    staged = how is not False
    options = {"batch_size": batch_size, "optimizer": optimizer, "learning_rate": learning_rate}
    options |= {"device": str(problem.device), "compile": how}
    evaluator = Evaluator(pair, dataset, subset=batch_size is not None, backend=backend_of(compile))
    against = None if objectives is None else AgainstPosterior(pair, dataset, reference)

    def look(pair: Pair) -> dict[str, float]:
        return {"elbo_per_datum": evaluator(pair)} | (against(pair) if against else {})

    if staged:  # otherwise the first one to be compiled would pay for libraries that are loaded only once
        Compiled(lambda x: (x + 1,), torch.zeros(1, device="cpu"))
    runs: Runs = {}
    rows: list[dict[str, Any]] = []
    start = look(pair)
    with (
        between_steps() as asked_to_stop,
        bar("race", len(goals) * len(methods) * len(numbers), show=progress, unit="run") as advance,
    ):
        for name, method in methods.items():
            runs |= _entered(name, method, pair, dataset, numbers, staged, options)
            rows += [_row(name, seed, 0, 0.0, start) for seed in numbers]
        for done, (name, seed, goal) in enumerate(turns(list(methods), numbers, goals), start=1):
            if asked_to_stop():
                break
            run = runs[name, seed]
            rows += _to_goal(name, seed, run, goal, look, asked_to_stop)
            advance(done, functools.partial("{}, {} steps".format, name, run.steps))
            if run.interrupted:
                break
        interrupted = asked_to_stop() or any(run.interrupted for run in runs.values())
    if interrupted and not _comparable(rows, runs):
        raise KeyboardInterrupt
    order = {name: number for number, name in enumerate(methods)}
    return Race(
        pair=pair.name,
        data=dataset.name,
        batch_size=batch_size or len(dataset),
        seeds=numbers,
        evaluator=evaluator.description,
        against=against.description if against else "",
        entries=tuple(_entry(name, method, runs, numbers) for name, method in methods.items()),
        rows=tuple(sorted(rows, key=lambda row: (order[row["estimator"]], numbers.index(row["seed"]), row["step"]))),
        interrupted=interrupted,
        fits={key: run.fit for key, run in runs.items()},
    )


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(seeds, int):
        first = rng.default_seed()
        return tuple(range(seeds) if first == 0 else (rng.child(first, number) for number in range(seeds)))
    if len(set(seeds)) < len(seeds):
        raise BadInput(
            f"seeds={seeds!r}. Wanted: a number of seeds, at least 1, or a list of distinct integers of at least 0."
        )
    return tuple(seeds)


def _goals(steps: int | None, seconds: float | None, evaluations: int) -> list[tuple[float, float]]:
    """The goals at which each run is evaluated: (step, second), whichever is reached first."""
    if steps is not None and seconds is not None:
        raise BadInput(f"Both steps={steps} and seconds={seconds} were given. Wanted: one of them.")
    shares = [(k / evaluations) ** 2 for k in range(1, evaluations + 1)]
    never = float("inf")
    if seconds is not None:
        return [(never, seconds * share) for share in shares]
    steps = 1000 if steps is None else steps
    return [(step, never) for step in sorted({max(1, round(steps * share)) for share in shares})]


def _entered(
    name: str,
    method: ELBO,
    pair: Pair,
    data: Dataset,
    seeds: tuple[int, ...],
    staged: bool,
    options: dict[str, Any],
) -> Runs:
    """The runs of an estimator, ready to start."""
    first = fit(pair, data, method, steps=0, seed=seeds[0], progress=False, **options)
    runs: Runs = {}
    for seed in seeds:
        fresh = replace(first, pair=first.pair.copy(), seed=seed, progress=Progress.start(seed))
        like = runs.get((name, seeds[0]))
        runs[name, seed] = FitRun(fresh, staged=staged, prepared=True, like=like)
        if like is None:
            runs[name, seed].rehearse()
    return runs


def _to_goal(
    name: str,
    seed: int,
    run: FitRun,
    goal: tuple[float, float],
    look: Callable[[Pair], dict[str, float]],
    asked_to_stop: Callable[[], bool],
) -> list[dict[str, Any]]:
    """Trains to a goal, and evaluates there; does nothing if it could not get there."""
    if run.failure or run.steps >= goal[0] or run.seconds >= goal[1]:
        return []
    run.go(goal[0], until=goal[1], asked_to_stop=asked_to_stop)
    if run.failure:
        return [_row(name, seed, run.steps + 1, run.seconds, {"elbo_per_datum": float("nan")})]
    if run.steps < goal[0] and run.seconds < goal[1]:
        return []
    return [_row(name, seed, run.steps, run.seconds, look(run.pair))]


def _row(name: str, seed: int, step: int, seconds: float, seen: dict[str, float]) -> dict[str, Any]:
    return {"estimator": name, "seed": seed, "step": step, "seconds": seconds, **seen}


def _comparable(rows: list[dict[str, Any]], runs: Runs) -> bool:
    """Whether each run has been evaluated at least once."""
    return {(row["estimator"], row["seed"]) for row in rows if row["step"]} == set(runs) and bool(runs)


def _entry(name: str, method: ELBO, runs: Runs, seeds: tuple[int, ...]) -> Entry:
    own = [runs[name, seed] for seed in seeds]
    return Entry(
        estimator=name,
        bound=_followed(method),
        engine=own[0].engine,
        setup_seconds=own[0].setup_seconds,
        failures=tuple(
            f"seed {run_seed}: {run.failure.what} at step {run.steps + 1}"
            + (f", {run.failure.where}" if run.failure.where else "")
            for run_seed, run in zip(seeds, own, strict=True)
            if run.failure
        ),
    )


def _followed(method: ELBO) -> str:
    """A description of its objective."""
    return method.objective.name if isinstance(method, Estimator) else getattr(method, "bound", "ELBO")
