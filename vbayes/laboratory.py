"""Measuring estimators side by side: the same batch, the same draws, the same clock."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor

from . import moments, rng
from .check import examine
from .comparison import Comparison, Point
from .dataset import Batch, Dataset
from .errors import BadInput, Unsuitable, checks_keywords
from .estimator import Estimator
from .estimators import RLOO, AnalyticKL, Pathwise, name_of, resolve
from .fitted import Fit
from .groups import Groups, parameter_groups
from .moments import Moments, bias_z, mean_norm
from .moments import snr as snr_of
from .moments import variance as variance_of
from .pair import Pair
from .particles import draw
from .progress import bar
from .replicas import Replicas
from .staging import draw_noise, unvalidated
from .timing import interleaved
from .training import choose_device, count_steps, fit

DEFAULT = ("score", "rloo", "pathwise", "analytic_kl", "stl")
BLOCKS = 50  # of replicas: enough for a standard error good to 10 %, few enough to keep their sums
ORACLE = 10  # times as many replicas for the oracle, so that its own error hardly counts


@checks_keywords
def compare(
    pair: Pair,
    data: Any,
    estimators: Sequence[Any] | None = None,
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
    progress: bool = True,
) -> Comparison:
    """Measures the gradient noise of estimators of the ELBO at the start, the middle and the end of a training run.

    At each point one minibatch is held fixed, and each estimator's gradient is drawn `replicas` times with the same base
    noise for all. So what is measured is the noise of the estimator, apart from that of the minibatch.

    Args:
        pair: Model and guide; never changed.
        data: As for `fit`.
        estimators: Names or objects; those of score, rloo, pathwise, analytic_kl and stl that suit the pair, if None.
        at: Name → fit or pair to measure at, instead of training here.
        steps, epochs, batch_size, optimizer, learning_rate: Of the training, as for `fit`; it follows `AnalyticKL`.
            The gradients measured are those of a batch of the same size.
        replicas: R; rounded up to a multiple of 50.
        oracle: What bias is judged by: "auto" is the pair's exact ELBO or else an unbiased estimator with 10 R replicas
            of its own; an estimator takes its place.
        groups: Of parameters: "role", "parameter", or a mapping; see `vbayes.groups.parameter_groups`.
        seed: Of everything.
        device: As for `fit`.
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
    dataset = Dataset.of(data).to(where)
    dataset.check_batch_size(batch_size)
    pair = pair.copy().to(where)
    with rng.seeded(seed):
        batch = next(iter(dataset.minibatches(pair.model, batch_size)))
    examine(pair, batch)
    methods = _suitable(pair, batch, estimators)
    last: Fit | None = None
    if at is None:
        options = {"batch_size": batch_size, "optimizer": optimizer, "learning_rate": learning_rate, "seed": seed}
        start = fit(pair, dataset, AnalyticKL(), steps=0, device=str(where), progress=False, **options)
        steps = count_steps(start, steps, epochs)
        middle = start.resume(steps=steps // 2, progress=progress)
        last = middle.resume(steps=steps - steps // 2, progress=progress)
        at = {"start": start, "middle": middle, "end": last}
    bench = _Bench(pair, batch, methods, oracle, parameter_groups(pair, batch, groups), size, seed)
    rows, points = [], []
    with bar("compare", len(at) * bench.pieces, show=progress) as advance:
        for number, (name, place) in enumerate(at.items()):
            here = (place.pair if isinstance(place, Fit) else place).copy().to(where).initialise(batch)
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


class _Bench:
    """The estimators side by side: the same batch, the same base noise, the same clock."""

    def __init__(
        self, pair: Pair, batch: Batch, methods: dict[str, ELBO], oracle: Any, groups: Groups, size: int, seed: int
    ) -> None:
        self.batch, self.size, self.seed = batch, size, seed
        self.replicas = {name: Replicas(pair, method, batch) for name, method in methods.items()}
        self.exact = pair.exact if oracle == "auto" else None
        judge = None if self.exact else _unbiased(pair, batch) if oracle == "auto" else resolve(oracle)
        self.judge = judge and Replicas(pair, judge, batch)
        self.oracle_name = f"{name_of(judge)}, {ORACLE * size * BLOCKS} replicas" if judge else "exact ELBO"
        offsets = torch.tensor([v.numel() for v in pair.parameters.values()]).cumsum(0).tolist()
        where = {
            k: torch.arange(stop - v.numel(), stop)
            for (k, v), stop in zip(pair.parameters.items(), offsets, strict=True)
        }
        self.groups = {group: torch.cat([where[name] for name in names]) for group, names in groups.items()}
        every = [*self.replicas.values(), *([self.judge] if self.judge else [])]
        self.sizes = max(r.sizes[0] for r in every), max(r.sizes[1] for r in every)

    @property
    def pieces(self) -> int:
        """How many lists `measure` yields."""
        return len(self.replicas) + 2

    def measure(self, at: str, pair: Pair, seed: int) -> Iterator[list[dict[str, Any]]]:
        """Rows of the table at one point, in pieces of work for a progress bar."""
        truth = self._truth(pair, seed + 1)
        yield []
        times = self._times(pair)
        yield []
        mean = truth.mean if isinstance(truth, Moments) else truth
        for name, replicas in self.replicas.items():
            # The same seed for each estimator: common random numbers.
            drawn = self._moments(replicas, pair, mean, self.size, seed)
            yield [
                {"at": at, "estimator": name, "group": group, **_statistics(drawn, truth, index, times[name])}
                for group, index in self.groups.items()
            ]

    def _truth(self, pair: Pair, seed: int) -> Moments | Tensor:
        if self.judge:
            first = next(self._blocks(self.judge, pair, self.size, seed))
            centre = torch.cat([chunk.double() for chunk in first]).mean(0)
            return self._moments(self.judge, pair, centre, ORACLE * self.size, seed)
        assert self.exact is not None
        with pair.scope():
            elbo = self.exact.elbo(*self.batch.args)
            leaves = pair.leaves
            grads = torch.autograd.grad(elbo, [leaves[name] for name in pair.parameters], materialize_grads=True)
        return torch.cat([g.reshape(-1) for g in grads]).double()

    def _moments(self, replicas: Replicas, pair: Pair, centre: Tensor, size: int, seed: int) -> Moments:
        return moments.collect(self._blocks(replicas, pair, size, seed), centre, size)

    def _blocks(self, replicas: Replicas, pair: Pair, size: int, seed: int) -> Iterator[Iterator[Tensor]]:
        like = next(iter(pair.parameters.values()))
        for block in range(BLOCKS):
            with rng.seeded(hash((self.seed, seed, block)) % 2**32):
                noise = draw_noise(self.sizes, size, like)
            yield replicas.gradients(pair, noise, hash((self.seed, seed, block, 1)) % 2**32)

    def _times(self, pair: Pair) -> dict[str, tuple[float, float]]:
        """Milliseconds of one gradient as `fit` pays it."""
        model, guide = pair.scaled(self.batch.total)
        with pair.scope(), rng.seeded(self.seed), unvalidated():
            tasks = {
                name: functools.partial(replicas.estimator.loss_and_grads, model, guide, *self.batch.args)
                for name, replicas in self.replicas.items()
            }
            return interleaved(tasks)


def _statistics(drawn: Moments, truth: Moments | Tensor, index: Tensor, time: tuple[float, float]) -> dict[str, float]:
    group = drawn.select(index)
    right = truth.select(index) if isinstance(truth, Moments) else truth[index]
    (norm, norm_se), (variance, variance_se), (snr, snr_se) = (f(group) for f in (mean_norm, variance_of, snr_of))
    ms, ms_se = time
    return {
        "mean_norm": norm,
        "bias_z": bias_z(group, right),
        "variance": variance,
        "variance_se": variance_se,
        "snr": snr,
        "ms_per_gradient": ms,
        "variance_time": variance * ms,
        "mean_norm_se": norm_se,
        "snr_se": snr_se,
        "ms_se": ms_se,
        "variance_time_se": math.hypot(variance_se * ms, variance * ms_se),
    }


def _suitable(pair: Pair, batch: Batch, estimators: Sequence[Any] | None) -> dict[str, ELBO]:
    """Name → estimator. One that was asked for and can't work here is an error; a default one is left out."""
    chosen = [resolve(e) for e in (DEFAULT if estimators is None else estimators)]
    if not chosen:
        raise BadInput("No estimators to compare. Wanted: at least one, or None for the usual ones.")
    found: dict[str, ELBO] = {}
    for method in chosen:
        try:
            _try(pair, batch, method)
        except Unsuitable:
            if estimators is not None:
                raise
            continue
        if (name := name_of(method)) in found:
            raise BadInput(f"Estimator {name!r} was given twice.")
        found[name] = method
    return found


def _try(pair: Pair, batch: Batch, method: ELBO) -> None:
    if isinstance(method, Estimator):
        with pair.scope(), rng.seeded(0), torch.no_grad():
            draw(pair, batch, method.num_particles, method.needs)


def _unbiased(pair: Pair, batch: Batch) -> Estimator:
    """A quiet unbiased estimator: analytic KL where every site has a path, else leave-one-out."""
    try:
        _try(pair, batch, Pathwise())
    except Unsuitable:
        return RLOO(8)
    return AnalyticKL()


def _point(name: str, place: Fit | Pair, pair: Pair, batch: Batch, rows: int, seed: int) -> Point:
    model, guide = pair.scaled(batch.total)
    with pair.scope(), rng.seeded(seed), unvalidated():
        elbo = -AnalyticKL(8).loss(model, guide, *batch.args)
    return Point(name, place.steps if isinstance(place, Fit) else 0, elbo / rows)
