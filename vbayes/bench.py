"""Estimators side by side: the same batch, the same draws, the same clock."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor

from . import moments, rng
from .dataset import Batch
from .errors import NonFinite
from .estimators import name_of
from .groups import Groups
from .moments import Moments, bias_z, mean_norm, root_mean_square
from .moments import snr as snr_of
from .moments import variance as variance_of
from .pair import Pair
from .replicas import Replicas
from .staging import draw_noise
from .timing import interleaved
from .validation import no_warnings_of_nan, validation

BLOCKS = 50  # of replicas: enough for a standard error good to 10 %, few enough to keep their sums
ROUNDING = 64  # units in the last place that sums over data and layers may lose
ORACLE = 10  # times as many replicas for the oracle, so that its own error hardly counts


class Bench:
    """Measures several estimators at any point of a pair's training.

    Args:
        pair: Initialised.
        batch: The one minibatch whose gradient is estimated.
        methods: Name → estimator.
        judge: An unbiased estimator to judge bias by; None where the pair's exact ELBO does.
        groups: Of parameters.
        size: Replicas in each of the blocks.
        seed: Of everything.
        compiled: Make machine code of the gradients.
        memory: Bytes that a chunk of them may take; a quarter of what is free if None.
    """

    def __init__(
        self,
        pair: Pair,
        batch: Batch,
        methods: dict[str, ELBO],
        judge: ELBO | None,
        groups: Groups,
        size: int,
        seed: int,
        *,
        compiled: bool = False,
        memory: int | None = None,
    ) -> None:
        self.batch, self.size, self.seed = batch, size, seed
        how: dict[str, Any] = {"compiled": compiled, "memory": memory}
        self.replicas = {name: Replicas(pair, method, batch, **how) for name, method in methods.items()}
        same = next((name for name, method in methods.items() if method == judge), None)
        # What an estimator of another bound is judged by would have to be of that bound.
        self.judged = {name for name, method in methods.items() if target(method) == target(judge)}
        self.judge = judge and (self.replicas[same] if same else Replicas(pair, judge, batch, **how))
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
        return len(self.replicas) + 3

    def measure(self, at: str, pair: Pair, seed: int) -> Iterator[list[dict[str, Any]]]:
        """Rows of the table at one point, in pieces of work for a progress bar."""
        truth = self._truth(pair, seed + 1)
        yield []
        times = self._times(pair)
        yield []
        mean = truth.mean if isinstance(truth, Moments) else truth
        drawn: dict[str, Moments] = {}
        for name, replicas in self.replicas.items():
            replicas.settle(pair, seed)
            # The same seed for each estimator: common random numbers.
            drawn[name] = self._moments(replicas, pair, mean, self.size, seed)
            if not torch.isfinite(drawn[name].squares).all():
                raise NonFinite(
                    f"Estimator {name!r} drew a gradient of pair {pair.name!r} that is not finite at the {at} of the training. "
                    "Common mends: a scale bounded away from 0, a support that fits, another point.",
                    step=0, sites=(), fit=None,
                )  # fmt: skip
            yield []
        rows = []
        for group, index in self.groups.items():
            # Differences below the last digit of a typical gradient are rounding, whatever an estimator's own variance.
            typical = max(root_mean_square(m.select(index)) for m in drawn.values())
            rounding = ROUNDING * torch.finfo(next(iter(pair.parameters.values())).dtype).eps * typical
            rows += [
                {
                    "at": at,
                    "estimator": name,
                    "group": group,
                    **_statistics(m, truth, index, times[name], rounding, judged=name in self.judged),
                }
                for name, m in drawn.items()
            ]
        yield sorted(rows, key=lambda row: list(drawn).index(row["estimator"]))

    def _truth(self, pair: Pair, seed: int) -> Moments | Tensor:
        if self.judge:
            first = next(self._blocks(self.judge, pair, self.size, seed))
            centre = torch.cat([chunk.double() for chunk in first]).mean(0).cpu()
            return self._moments(self.judge, pair, centre, ORACLE * self.size, seed)
        assert pair.exact is not None
        with pair.scope():
            elbo = pair.exact.elbo(*self.batch.args)
            leaves = pair.leaves
            grads = torch.autograd.grad(elbo, [leaves[name] for name in pair.parameters], materialize_grads=True)
        return torch.cat([g.reshape(-1) for g in grads]).double().cpu()

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
        with pair.scope(), rng.seeded(self.seed), validation(False), no_warnings_of_nan():
            tasks = {name: replicas.task(pair) for name, replicas in self.replicas.items()}
            times = interleaved({name: task for name, (task, _) in tasks.items()})
        return {name: (ms / tasks[name][1], se / tasks[name][1]) for name, (ms, se) in times.items()}


def target(estimator: ELBO | None) -> tuple[Any, ...]:
    """What the gradient of an estimator is meant to be; None stands for the exact ELBO."""
    bound = getattr(estimator, "bound", "ELBO")
    return (bound,) if bound == "ELBO" else (bound, getattr(estimator, "num_particles", None))


def _statistics(
    drawn: Moments, truth: Moments | Tensor, index: Tensor, time: tuple[float, float], rounding: float, *, judged: bool
) -> dict[str, float]:
    group = drawn.select(index)
    right = truth.select(index) if isinstance(truth, Moments) else truth[index]
    (norm, norm_se), (variance, variance_se), (snr, snr_se) = (f(group) for f in (mean_norm, variance_of, snr_of))
    ms, ms_se = time
    return {
        "mean_norm": norm,
        "bias_z": bias_z(group, right, rounding) if judged else math.nan,
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
