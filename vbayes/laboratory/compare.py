"""Measuring estimators side by side: the same batch, the same draws, the same clock."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro.infer import ELBO

from .. import rng
from ..arguments.kind import Anything, Either, Mapped, Optional, Several
from ..arguments.takes import takes
from ..arguments.whole import Whole
from ..data.dataset import Batch
from ..errors import BadInput, Unsuitable
from ..estimators import name_of, resolve
from ..estimators.base import Estimator
from ..estimators.suits import check_suits, of_elbo
from ..pair.check import require_parameters
from ..pair.pair import Pair
from ..pair.paired import Model
from ..pair.parameter_groups import GROUPS, parameter_groups
from ..pair.problem import Problem
from ..progress import bar
from ..staging.backends import Compile, asked_for, backend_of
from ..summaries.heavy_tails import heavy_tailed
from ..training.engine import repays, settled
from ..training.fit import count_steps, fit
from ..training.result import Fit
from ..validation import no_warnings_of_nan, validation
from .bench import BLOCKS, Bench
from .checkpoints import (
    Checkpoint,
    given_checkpoints,
    pair_at,
    points_of_training,
    seeds_of_training,
    trained_checkpoints,
)
from .comparison import Comparison, Point
from .metric import metric_of
from .oracle import check_oracle, judge_of, target

ESTIMATOR = Anything("a name or an estimator", "'stl'")
SEVERAL_ESTIMATORS = Either(Several(ESTIMATOR), Mapped(ESTIMATOR))
DEFAULT = ("score", "rloo", "pathwise", "analytic_kl", "stl")


@takes(
    replicas=Whole(2 * BLOCKS, drawn=True),
    groups=GROUPS,
    estimators=Optional(SEVERAL_ESTIMATORS),
    particles=Optional(Several(Whole(None))),
)
def compare(
    pair: Model,
    data: Any = None,
    estimators: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    particles: Sequence[int] | None = None,
    at: str | Sequence[Fit] | Mapping[str, Checkpoint] | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: Any = torch.optim.Adam,
    learning_rate: float | None = None,
    update: Any = None,
    replicas: int = 1000,
    oracle: Any = "auto",
    groups: str | Mapping[str, Sequence[str]] = "role",
    seed: int | None = None,
    device: str = "auto",
    compile: Compile = "auto",
    memory: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Measures the gradients of estimators side by side: bias, variance, signal-to-noise ratios and cost, along a training run.

    At each point one minibatch is held fixed, and each estimator's gradient is drawn `replicas` times with the same base
    noise for all. So what is measured is the noise of the estimator, apart from that of the minibatch.

    Args:
        pair: Model and guide; never changed.
        data: As for `fit`.
        estimators: Names or objects, or a mapping from your own names to those; those of score, rloo, pathwise, analytic_kl and stl that suit the pair, if None.
        particles: K's to measure each estimator at, as far as it can have them; those that they come with, if None.
        at: None trains here, and measures at its start, middle and end; "trajectory" at seven points of it, evenly on a logarithmic
            scale of steps; "start", "middle", "end" or "step 10", as the table names them, or several in a list, at those alone. Or where to measure instead of training: fits, or name → fit, pair or values of the parameters.
        steps, epochs, batch_size, optimizer, learning_rate: Of the training, as for `fit`; it follows `AnalyticKL`.
            The gradients measured are those of a batch of the same size. A model that sums sites out is trained by `Enumerated`, which then is the usual
            estimator too.
        update: `vb.NaturalGradient()`: measure its steps instead of gradients, in the metric of the guide's normals. A variance is then twice the nats by which a step at rate 1 moves q for
            nothing, in whatever units the parameters are; what is no normal's stays a gradient. The training is by `optimizer` all the same.
        replicas: R; rounded up to a multiple of 50.
        oracle: What bias is judged by, each estimator by the bound that it is of: "auto" is the pair's exact ELBO, or else an
            unbiased estimator of the bound with 10 R replicas of its own; "tabulated" the truth from `vb.tabulate`, where the
            latents are few enough; an unbiased estimator judges those of its bound.
        groups: Of parameters: "role", "parameter", or a mapping; see `vbayes.pair.parameter_groups.parameter_groups`.
        seed: Seed for all random numbers.
        device: As for `fit`.
        compile: As for `fit`, of the training and the gradients measured: they cost what they cost in such a fit. "auto"
            with `at` does not compile.
        memory: Memory that a chunk of gradients may take, in bytes; a quarter of the free memory if None.
        progress: Whether to show progress bars.

    Raises:
        Unsuitable: An estimator that was asked for can't work on this pair, or the pair can't be tabulated.

    Warns where one block of draws carries most of a variance: then its error is too small.
        BadInput: As for `fit`.

    Examples:
        >>> result = vb.compare(pair, vb.data.digits(), ["pathwise", "stl"], epochs=50, batch_size=100)
        >>> print(result.verdict())
        >>> result.plot()
    """
    size, seed = -(-replicas // BLOCKS), rng.or_default(seed)
    check_oracle(oracle)
    training = points_of_training(at)
    checkpoints = {} if training else given_checkpoints(at, steps=steps, epochs=epochs, learning_rate=learning_rate)
    problem = Problem.of(pair, data, batch_size=batch_size, device=device)
    pair, dataset, batch = problem.pair, problem.data, problem.draw(seed)
    methods = suitable(pair, batch, estimators, particles)
    require_parameters(pair)
    last: Fit | None = None
    if training:
        options = {
            "batch_size": batch_size,
            "optimizer": optimizer,
            "learning_rate": learning_rate,
            "seed": seed,
            "compile": compile,
        }
        start = fit(pair, dataset, of_elbo(pair, batch), steps=0, device=str(problem.device), progress=False, **options)
        steps = count_steps(dataset, batch_size, steps, epochs)
        start = replace(start, compile=settled(compile, steps))
        checkpoints = trained_checkpoints(start, steps, training, progress=progress)
        compile = compile if asked_for(compile) else repays(compile, steps)
        last = list(checkpoints.values())[-1]  # type: ignore[assignment]
    whole = batch_size in (None, len(dataset))
    judges, judged = {}, {}
    for name, method in methods.items():
        bound = target(method)
        if bound not in judged:
            judged[bound] = judge_of(method, pair, batch, oracle, whole=whole)
        judges[name] = judged[bound]
    grouped = parameter_groups(pair, batch, groups)
    how: dict[str, Any] = {"compiled": asked_for(compile), "backend": backend_of(compile), "memory": memory}
    how["normals"] = metric_of(update, pair, batch)
    bench = Bench(pair, batch, methods, judges, grouped, size, seed, **how)
    rows, points = [], []
    seeds = seeds_of_training(seed, checkpoints) if training else rng.children(seed, len(checkpoints))
    with bar("compare", len(checkpoints) * bench.pieces, show=progress) as advance:
        for number, (name, checkpoint) in enumerate(checkpoints.items()):
            here = pair_at(name, checkpoint, problem)
            points.append(_point(name, checkpoint, here, batch, len(dataset), seed))
            reached = checkpoint if isinstance(checkpoint, Fit) else None
            for piece, row in enumerate(bench.measure(name, here, seeds[number], reached), start=1):
                rows.extend(row)
                advance(number * bench.pieces + piece, functools.partial("at the {}".format, name))
            advance((number + 1) * bench.pieces, functools.partial("at the {}".format, name))
    found = Comparison(
        pair=pair.name,
        data=dataset.name,
        batch_size=batch_size or len(dataset),
        replicas=size * BLOCKS,
        seed=seed,
        oracle="; ".join(dict.fromkeys(bench.oracles.values())),
        estimators=tuple(methods),
        rows=tuple(rows),
        points=tuple(points),
        fit=last,
        update=repr(update) if update is not None else "",
    )
    if heavy := heavy_tailed(found.to_dataframe()):
        warnings.warn(heavy, stacklevel=3)
    return found


def suitable(
    pair: Pair,
    batch: Batch,
    estimators: Sequence[Any] | Mapping[str, Any] | None,
    particles: Sequence[int] | None = None,
) -> dict[str, ELBO]:
    """Name → estimator. One that was asked for and can't work here is an error; a default one is left out."""
    if isinstance(estimators, Mapping):
        chosen = [(name, resolve(e)) for name, e in estimators.items()]
    else:
        chosen = [(name_of(e), e) for e in map(resolve, DEFAULT if estimators is None else estimators)]
    if not chosen:
        raise BadInput("No estimators to compare. Wanted: at least one, or None for the usual ones.")
    if particles is not None:
        kinds = [_with_particles(name, method, particles) for name, method in chosen]
        if any(not kind if estimators is not None else not any(kinds) for kind in kinds):
            name, method = next(one for one, kind in zip(chosen, kinds, strict=True) if not kind)
            least = getattr(method, "min_particles", 1)
            raise BadInput(f"particles={tuple(particles)} are none that {name} can have. Wanted: at least {least}.")
        chosen = [one for kind in kinds for one in kind]
    found: dict[str, ELBO] = {}
    for name, method in chosen:
        try:
            check_suits(pair, batch, method)
        except Unsuitable:
            if estimators is not None:
                raise
            continue
        if name in found:
            raise BadInput(
                f"Estimator {name!r} was given twice. Give the two names of their own, by a mapping from name to estimator."
            )
        found[name] = method
    if not found:  # none of the usual ones: a model that sums sites out has one that does
        method = of_elbo(pair, batch)
        check_suits(pair, batch, method)
        found[name_of(method)] = method
    return found


def _with_particles(name: str, method: ELBO, particles: Sequence[int]) -> list[tuple[str, ELBO]]:
    if not isinstance(method, Estimator):
        raise BadInput(f"particles={tuple(particles)} can't be set for {name}, which is Pyro's. Leave one of them out.")
    found: list[tuple[str, ELBO]] = []
    for count in particles:
        try:
            other = replace(method, num_particles=count)
        except BadInput:  # it can't have so few, or so many that its groups don't divide
            continue
        found.append((name_of(other) if name == name_of(method) else f"{name}({count})", other))
    return found


def _point(name: str, checkpoint: Checkpoint, pair: Pair, batch: Batch, rows: int, seed: int) -> Point:
    model, guide = pair.scaled(batch.total)
    method = of_elbo(pair, batch, 8)
    with pair.scope(), rng.seeded(seed), validation(False), no_warnings_of_nan():
        elbo = -method.loss(model, guide, *batch.args)
    return Point(name, checkpoint.steps if isinstance(checkpoint, Fit) else 0, elbo / rows)
