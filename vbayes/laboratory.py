"""Measuring estimators side by side: the same batch, the same draws, the same clock."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from pyro.infer import ELBO

from . import rng
from .bench import BLOCKS, Bench
from .check import examine, examine_minibatches, require_parameters
from .comparison import Comparison, Point
from .dataset import Batch, Dataset
from .drawing import draw
from .errors import BadInput, Unsuitable, checks_keywords
from .estimator import Estimator
from .estimators import RLOO, AnalyticKL, Pathwise, name_of, resolve
from .fitted import Fit
from .groups import parameter_groups
from .pair import Pair
from .progress import bar
from .steps import WORTH
from .training import choose_device, count_steps, fit
from .validation import no_warnings_of_nan, validation

DEFAULT = ("score", "rloo", "pathwise", "analytic_kl", "stl")


@checks_keywords
def compare(
    pair: Pair,
    data: Any,
    estimators: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    at: Mapping[str, Fit | Pair] | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: Any = torch.optim.Adam,
    learning_rate: float | None = None,
    replicas: int = 1000,
    oracle: Any = "auto",
    groups: str | Mapping[str, Sequence[str]] = "role",
    seed: int = 0,
    device: str = "auto",
    compile: Literal["auto"] | bool = "auto",
    memory: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Measures the gradient noise of estimators of the ELBO at the start, the middle and the end of a training run.

    At each point one minibatch is held fixed, and each estimator's gradient is drawn `replicas` times with the same base
    noise for all. So what is measured is the noise of the estimator, apart from that of the minibatch.

    Args:
        pair: Model and guide; never changed.
        data: As for `fit`.
        estimators: Names or objects, or a mapping from your own names to those; those of score, rloo, pathwise, analytic_kl and stl that suit the pair, if None.
        at: Name → fit or pair to measure at, instead of training here.
        steps, epochs, batch_size, optimizer, learning_rate: Of the training, as for `fit`; it follows `AnalyticKL`.
            The gradients measured are those of a batch of the same size.
        replicas: R; rounded up to a multiple of 50.
        oracle: What bias is judged by: "auto" is the pair's exact ELBO or else an unbiased estimator with 10 R replicas
            of its own; an estimator takes its place.
        groups: Of parameters: "role", "parameter", or a mapping; see `vbayes.groups.parameter_groups`.
        seed: Of everything.
        device: As for `fit`.
        compile: As for `fit`, of the training and the gradients measured: they cost what they cost in such a fit. "auto"
            with `at` does not compile.
        memory: Bytes that a chunk of gradients may take; a quarter of what is free if None.
        progress: Show bars.

    Raises:
        Unsuitable: An estimator that was asked for can't work on this pair.
        BadInput: As for `fit`.

    Examples:
        >>> result = vb.compare(pair, vb.data.digits(), ["pathwise", "stl"], epochs=50, batch_size=100)
        >>> print(result.verdict())
        >>> result.plot()
    """
    if replicas < 2 * BLOCKS:
        raise BadInput(f"replicas={replicas} is too few for a standard error. Wanted: at least {2 * BLOCKS}.")
    size = -(-replicas // BLOCKS)
    where = choose_device(device)
    if at is not None:
        _check_places(at, steps=steps, epochs=epochs, learning_rate=learning_rate)
    dataset = Dataset.of(data)
    dataset.check_batch_size(batch_size)
    pair = pair.copy()
    examine_minibatches(pair, dataset, batch_size)
    at_home = dataset.batch(pair.model, None if batch_size is None else torch.arange(batch_size))
    # Parameters are made where the caller's modules and data are; then all of it moves.
    pair, dataset = pair.to(where), dataset.to(where)
    with rng.seeded(seed):
        batch = next(iter(dataset.minibatches(pair.model, batch_size)))
    methods = _suitable(pair, batch, estimators)
    require_parameters(pair)
    last: Fit | None = None
    if at is None:
        options = {
            "batch_size": batch_size,
            "optimizer": optimizer,
            "learning_rate": learning_rate,
            "seed": seed,
            "compile": compile,
        }
        start = fit(pair, dataset, AnalyticKL(), steps=0, device=str(where), progress=False, **options)
        steps = count_steps(start, steps, epochs)
        compile = compile is True or (compile == "auto" and steps >= WORTH)
        middle = _whole(replace(start, compile=compile).resume(steps=steps // 2, progress=progress))
        last = _whole(middle.resume(steps=steps - steps // 2, progress=progress))
        at = {"start": start, "middle": middle, "end": last}
    judge = _judge(pair, batch, oracle, whole=batch_size in (None, len(dataset)))
    grouped = parameter_groups(pair, batch, groups)
    bench = Bench(pair, batch, methods, judge, grouped, size, seed, compiled=compile is True, memory=memory)
    rows, points = [], []
    with bar("compare", len(at) * bench.pieces, show=progress) as advance:
        for number, (name, place) in enumerate(at.items()):
            here = _moved(name, place.pair if isinstance(place, Fit) else place, pair, at_home).to(where)
            points.append(_point(name, place, here, batch, len(dataset), seed))
            for piece, row in enumerate(bench.measure(name, here, seed + 1000 * number), start=1):
                rows.extend(row)
                advance(number * bench.pieces + piece, functools.partial("at the {}".format, name))
    return Comparison(
        pair=pair.name,
        data=dataset.name,
        batch_size=batch_size or len(dataset),
        replicas=size * BLOCKS,
        seed=seed,
        oracle=bench.oracle_name,
        estimators=tuple(methods),
        rows=tuple(rows),
        points=tuple(points),
        fit=last,
    )


def _check_places(at: Mapping[str, Fit | Pair], **training: Any) -> None:
    given = {name: value for name, value in training.items() if value is not None}
    if given:
        raise BadInput(
            f"at=... was given, so nothing is trained, and {', '.join(given)} would do nothing. Leave it out."
        )
    wrong = [name for name, place in at.items() if not isinstance(place, (Fit, Pair))]
    if wrong or not at:
        got = {name: type(at[name]).__name__ for name in wrong}
        raise BadInput(f"at={got} won't do. Wanted: a mapping from a name to a vb.Fit or vb.Pair, one at least.")


def _moved(name: str, place: Pair, pair: Pair, batch: Batch) -> Pair:
    """A copy of the pair to measure at, which must have the parameters of the pair that is measured."""
    here = place.copy()
    examine(here, batch)
    got, wanted = ({k: tuple(v.shape) for k, v in p.parameters.items()} for p in (here, pair))
    if got != wanted:
        raise BadInput(f"at[{name!r}] has parameters {got}. Wanted: those of pair {pair.name!r}, {wanted}.")
    return here


def _suitable(pair: Pair, batch: Batch, estimators: Sequence[Any] | Mapping[str, Any] | None) -> dict[str, ELBO]:
    """Name → estimator. One that was asked for and can't work here is an error; a default one is left out."""
    if isinstance(estimators, Mapping):
        chosen = [(name, resolve(e)) for name, e in estimators.items()]
    else:
        chosen = [(name_of(e), e) for e in map(resolve, DEFAULT if estimators is None else estimators)]
    if not chosen:
        raise BadInput("No estimators to compare. Wanted: at least one, or None for the usual ones.")
    found: dict[str, ELBO] = {}
    for name, method in chosen:
        try:
            _try(pair, batch, method)
        except Unsuitable:
            if estimators is not None:
                raise
            continue
        if name in found:
            raise BadInput(
                f"Estimator {name!r} was given twice. Give the two names of their own, by a mapping from name to estimator."
            )
        found[name] = method
    return found


def _try(pair: Pair, batch: Batch, method: ELBO) -> None:
    if isinstance(method, Estimator):
        with pair.scope(), rng.seeded(0):
            draw(pair, batch, method.num_particles, method.needs)


def _judge(pair: Pair, batch: Batch, oracle: Any, *, whole: bool) -> ELBO | None:
    """What bias is judged by: nothing needed beside the exact ELBO of the whole data, else a quiet unbiased estimator."""
    if oracle != "auto":
        return resolve(oracle)
    if pair.exact and whole:
        return None
    try:
        _try(pair, batch, Pathwise())
    except Unsuitable:
        return RLOO(8)
    return AnalyticKL()


def _whole(reached: Fit) -> Fit:
    """A fit takes Ctrl-C as its end; here it ends everything."""
    if reached.interrupted:
        raise KeyboardInterrupt
    return reached


def _point(name: str, place: Fit | Pair, pair: Pair, batch: Batch, rows: int, seed: int) -> Point:
    model, guide = pair.scaled(batch.total)
    with pair.scope(), rng.seeded(seed), validation(False), no_warnings_of_nan():
        elbo = -AnalyticKL(8).loss(model, guide, *batch.args)
    return Point(name, place.steps if isinstance(place, Fit) else 0, elbo / rows)
