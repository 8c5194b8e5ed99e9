"""Compares estimators on the same batch with the same base noise."""

from __future__ import annotations

import functools
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
from ..errors import BadInput, Unsuitable, warn
from ..estimators import name_of, resolve
from ..estimators.base import Estimator
from ..estimators.check_value import check_value
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
    """Compares the gradients of estimators along a training run: bias, variance, signal-to-noise ratio and cost.

    At each point one minibatch is held fixed, and the gradient of each estimator is drawn `replicas` times, with the same base
    noise for all estimators. This measures the noise of the estimator alone, without that of the minibatch.

    Args:
        pair: Model and guide; never changed.
        data: As for `fit`.
        estimators: Names or objects, or a mapping from your own names to those; if None, those of score, rloo, pathwise, analytic_kl and stl that suit the pair.
        particles: Numbers of particles K to measure each estimator with, where possible; each estimator's own if None.
        at: If None, trains the pair and measures at the start, middle and end; "trajectory" measures at seven points of the training, evenly spaced on a logarithmic
            scale of steps; "start", "middle", "end" or "step 10" (the names in the table), or a list of these, only at those. Or, to measure without training: fits, or a mapping from names to fits, pairs or parameter values.
        steps, epochs, batch_size, optimizer, learning_rate: For the training, as for `fit`, which uses `AnalyticKL`.
            Gradients are measured on a batch of the same size. If the model sums sites out, `Enumerated` is used for training, and is the default
            estimator too.
        update: `vb.NaturalGradient()`, to measure its steps instead of gradients, in the metric of the guide's normals. A variance is then twice the distance in nats by which noise moves q in a step at
            rate 1, whatever the units of the parameters; parameters that don't belong to a normal keep their gradient. Training still uses `optimizer`.
        replicas: R, the number of gradients; rounded up to a multiple of 50.
        oracle: Reference for the bias of each estimator, for the bound that it estimates: "auto" is the pair's exact ELBO, or else an
            unbiased estimator of the bound with 10 R replicas of its own; "tabulated" is the exact value from `vb.tabulate`, if the
            latents are few enough; an unbiased estimator is the reference for estimators of its bound.
        groups: Groups of parameters: "role", "parameter", or a mapping; see `vbayes.pair.parameter_groups.parameter_groups`.
        seed: Seed for all random numbers.
        device: As for `fit`.
        compile: As for `fit`, for the training and the measured gradients, which are timed as in such a fit. "auto"
            does not compile if `at` is given.
        memory: Memory that a chunk of gradients may take, in bytes; a quarter of the free memory if None.
        progress: Whether to show progress bars.

    Raises:
        BadInput: As for `fit`.
        Unsuitable: A requested estimator can't be used with this pair, or the pair can't be tabulated.

    Warns if one block of draws carries most of a variance, as its standard error is then too small; and if the value of an estimator class of your own is not on average the bound that it names.

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
    for method in methods.values():
        check_value(pair, batch, method)
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
        warn(heavy)
    return found


def suitable(
    pair: Pair,
    batch: Batch,
    estimators: Sequence[Any] | Mapping[str, Any] | None,
    particles: Sequence[int] | None = None,
) -> dict[str, ELBO]:
    """Name → estimator. A requested estimator that can't be used here is an error; a default one is left out."""
    if isinstance(estimators, Mapping):
        chosen = [(name, resolve(e)) for name, e in estimators.items()]
    else:
        chosen = [(name_of(e), e) for e in map(resolve, DEFAULT if estimators is None else estimators)]
    if not chosen:
        raise BadInput("There are no estimators to compare. Wanted: at least one, or None for the default ones.")
    if particles is not None:
        kinds = [_with_particles(name, method, particles) for name, method in chosen]
        if any(not kind if estimators is not None else not any(kinds) for kind in kinds):
            name, method = next(one for one, kind in zip(chosen, kinds, strict=True) if not kind)
            least = getattr(method, "min_particles", 1)
            raise BadInput(f"particles={tuple(particles)} are too few for {name}. Wanted: at least {least}.")
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
                f"Estimator {name!r} was given twice. Give each its own name, with a mapping from names to estimators."
            )
        found[name] = method
    if not found:  # none of the default ones suits: a model that marginalises sites needs an estimator that does so
        method = of_elbo(pair, batch)
        check_suits(pair, batch, method)
        found[name_of(method)] = method
    return found


def _with_particles(name: str, method: ELBO, particles: Sequence[int]) -> list[tuple[str, ELBO]]:
    if not isinstance(method, Estimator):
        raise BadInput(
            f"particles={tuple(particles)} can't be set for {name}, which is one of Pyro's. Leave one of them out."
        )
    found: list[tuple[str, ELBO]] = []
    for count in particles:
        try:
            other = replace(method, num_particles=count)
        except BadInput:  # fewer than its minimum, or a number that its groups don't divide
            continue
        found.append((name_of(other) if name == name_of(method) else f"{name}({count})", other))
    return found


def _point(name: str, checkpoint: Checkpoint, pair: Pair, batch: Batch, rows: int, seed: int) -> Point:
    model, guide = pair.scaled(batch.total)
    method = of_elbo(pair, batch, 8)
    with pair.scope(), rng.seeded(seed), validation(False), no_warnings_of_nan():
        elbo = -method.loss(model, guide, *batch.args)
    return Point(name, checkpoint.steps if isinstance(checkpoint, Fit) else 0, elbo / rows)
