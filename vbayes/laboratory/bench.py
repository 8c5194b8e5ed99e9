"""Measures several estimators on the same batch with the same base noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor

from .. import rng
from ..data.dataset import Batch
from ..errors import NonFinite
from ..estimators.remembering import remembered
from ..pair.pair import Pair
from ..pair.parameter_groups import Groups
from ..staging import draw_noise
from ..updates.normal_parameters import NormalParameters
from ..validation import no_warnings_of_nan, validation
from . import moments
from .bias import UNKNOWN, bias
from .directions import Directions
from .metric import in_metric
from .moments import Moments, heaviest_block, mean_norm, root_mean_square, variances_without
from .moments import snr as snr_of
from .moments import variance as variance_of
from .oracle import Judge, Known, labels, said, target
from .replicas import Replicas
from .timing import interleaved

BLOCKS = 50  # blocks of replicas: enough for a standard error accurate to 10 %, few enough to store their sums
ROUNDING = 64  # units in the last place of rounding error in sums over data and layers
# Purposes of random streams: the oracle's draws; base noise of a block, all other random numbers in it; what an estimator remembers in each.
TRUTH, BASE, OTHER, MEMORY = 1, 2, 3, 4
ORACLE = 10  # times as many replicas for the oracle, so that its own error hardly matters


class Bench:
    """Measures several estimators at any point of a pair's training.

    Args:
        pair: An initialised pair.
        batch: The one minibatch whose gradient is estimated.
        methods: Name → estimator.
        judges: Name → reference for its bias, if any.
        groups: Groups of parameters.
        size: Replicas in each of the blocks.
        seed: Seed for all random numbers.
        compiled: Whether to compile the gradients.
        backend: The back end; see `staging.backends.made_by`.
        together: Whether to time many gradients at once if they are not machine code: a cheap estimate of their time as machine code.
        strict: Whether gradients that are not finite raise an error; otherwise the estimator is left out.
        memory: Memory that a chunk of gradients may take, in bytes; a quarter of the free memory if None.
        normals: Normals of the guide, in whose Fisher metric gradients are measured; see `in_metric`.
    """

    def __init__(
        self,
        pair: Pair,
        batch: Batch,
        methods: dict[str, ELBO],
        judges: Mapping[str, Judge | None],
        groups: Groups,
        size: int,
        seed: int,
        *,
        compiled: bool = False,
        backend: str = "auto",
        together: bool = False,
        strict: bool = True,
        memory: int | None = None,
        normals: Sequence[NormalParameters] = (),
    ) -> None:
        self.normals = normals
        self.together, self.strict = together, strict
        self.batch, self.methods, self.size, self.seed = batch, methods, size, seed
        how: dict[str, Any] = {"compiled": compiled, "backend": backend, "memory": memory}
        self.replicas = {name: Replicas(pair, method, batch, **how) for name, method in methods.items()}
        self.targets = {name: target(method) for name, method in methods.items()}
        self.bounds = labels(methods)
        self.judges = {bound: judges.get(name) for name, bound in self.targets.items()}
        # A reference that is itself measured need not be captured twice.
        captured = [(method, self.replicas[name]) for name, method in methods.items()]
        self.quiet = {
            bound: next((r for method, r in captured if method == judge), None) or Replicas(pair, judge, batch, **how)
            for bound, judge in self.judges.items()
            if isinstance(judge, ELBO)
        }
        offsets = torch.tensor([v.numel() for v in pair.parameters.values()], device="cpu").cumsum(0).tolist()
        where = {
            k: torch.arange(stop - v.numel(), stop, device="cpu")
            for (k, v), stop in zip(pair.parameters.items(), offsets, strict=True)
        }
        self.groups = {group: torch.cat([where[name] for name in names]) for group, names in groups.items()}
        every = [*self.replicas.values(), *self.quiet.values()]
        self.sizes = max(r.sizes[0] for r in every), max(r.sizes[1] for r in every)

    @property
    def oracles(self) -> dict[str, str]:
        """Name of an estimator → a description of the reference for its bias."""
        draws = ORACLE * self.size * BLOCKS
        return {
            name: "itself" if self.judges[bound] == self.methods[name] else said(self.judges[bound], draws)
            for name, bound in self.targets.items()
        }

    @property
    def pieces(self) -> int:
        """The number of lists that `measure` yields."""
        return len(self.replicas) + len(self.judges) + 2

    def measure(self, at: str, pair: Pair, seed: int, fit: Any = None) -> Iterator[list[dict[str, Any]]]:
        """Yields rows of the table at one point, in pieces of work for a progress bar.

        Args:
            at: Name of the point.
            pair: The pair at this point.
            seed: Seed for the draws at this point.
            fit: The fit that reached this point, if any, whose estimator is measured with what it has learned.
        """
        truths: dict[Any, Moments | Tensor | None] = {}
        for bound, judge in self.judges.items():
            truths[bound] = self._truth(at, bound, judge, pair, rng.child(seed, TRUTH))
            yield []
        times = self._times(pair)
        yield []
        drawn: dict[str, tuple[Moments, Directions]] = {}
        for name, replicas in self.replicas.items():
            learned = remembered(fit.estimator, fit.pair) if fit and fit.estimator == self.methods[name] else None
            replicas.settle(pair, rng.child(seed, MEMORY), memories=BLOCKS, learned=learned)
            truth = truths[self.targets[name]]
            right = truth.mean if isinstance(truth, Moments) else truth
            centre = self._centre(replicas, pair, seed) if right is None else right
            seen = Directions(torch.zeros_like(centre) if right is None else right, self.groups, BLOCKS)
            # The same seed for each estimator: common random numbers.
            drawn[name] = self._moments(replicas, pair, centre, self.size, seed, seen), seen
            if not torch.isfinite(drawn[name][0].squares).all():
                if not self.strict:
                    del drawn[name]
                    continue
                raise NonFinite(
                    f"Estimator {name!r} gave a gradient of pair {pair.name!r} that is not finite at the {at} of training. "
                    "Common fixes: a scale bounded away from 0, a matching support, another point.",
                    step=0, sites=(), fit=None,
                )  # fmt: skip
            yield []
        if not drawn:
            return
        rows, oracles = [], self.oracles
        for group, index in self.groups.items():
            # Differences below the last digit of a typical gradient are rounding errors, whatever an estimator's own variance.
            typical = max(root_mean_square(m.select(index)) for m, _ in drawn.values())
            rounding = ROUNDING * torch.finfo(next(iter(pair.parameters.values())).dtype).eps * typical
            for name, (m, seen) in drawn.items():
                truth = truths[self.targets[name]]
                method = self.methods[name]
                rows.append(
                    {
                        "at": at,
                        "estimator": name,
                        "group": group,
                        "num_particles": getattr(method, "num_particles", 1),
                        "bound": self.bounds[name],
                        "oracle": oracles[name],
                        "captured": self.replicas[name].why_slow or "yes",
                        **_statistics(m.select(index), times[name], rounding),
                        **_bias(m, None if oracles[name] == "itself" else truth, index, rounding),
                        **_directional(seen, group, known=truth is not None),
                    }
                )
        yield sorted(rows, key=lambda row: list(drawn).index(row["estimator"]))

    def _truth(self, at: str, bound: Any, judge: Judge | None, pair: Pair, seed: int) -> Moments | Tensor | None:
        if judge is None:
            return None
        truth: Moments | Tensor
        if isinstance(judge, Known):
            truth = probe = in_metric(self.normals, pair)(judge.gradient(pair)[None])[0]
        else:
            replicas = self.quiet[bound]
            replicas.settle(pair, rng.child(seed, MEMORY), memories=BLOCKS)
            truth = self._moments(replicas, pair, self._centre(replicas, pair, seed), ORACLE * self.size, seed)
            probe = truth.squares
        if torch.isfinite(probe).all():
            return truth
        raise NonFinite(
            f"The oracle ({said(judge, ORACLE * self.size * BLOCKS)}) gave a gradient of pair {pair.name!r} that is not finite at the {at} of "
            "training, so it can't serve as a reference. Wanted: another oracle, or another point.",
            step=0, sites=(), fit=None,
        )  # fmt: skip

    def _centre(self, replicas: Replicas, pair: Pair, seed: int) -> Tensor:
        """The mean of a block of draws, which is close enough to the mean to save digits."""
        first = next(self._blocks(replicas, pair, self.size, seed))
        return torch.cat([chunk.double() for chunk in first]).mean(0).cpu()

    def _moments(
        self, replicas: Replicas, pair: Pair, centre: Tensor, size: int, seed: int, seen: Directions | None = None
    ) -> Moments:
        look = {"look": seen} if seen else {}
        return moments.collect(self._blocks(replicas, pair, size, seed), centre, size, **look)

    def _blocks(self, replicas: Replicas, pair: Pair, size: int, seed: int) -> Iterator[Iterator[Tensor]]:
        like, turned = next(iter(pair.parameters.values())), in_metric(self.normals, pair)
        for block in range(BLOCKS):
            replicas.recall(block)
            with rng.seeded(rng.child(seed, BASE, block)):
                noise = draw_noise(self.sizes, size, like)
            yield map(turned, replicas.gradients(pair, noise, rng.child(seed, OTHER, block)))

    def _times(self, pair: Pair) -> dict[str, tuple[float, float]]:
        """Milliseconds of one gradient in `fit`."""
        with pair.scope(), rng.seeded(self.seed), validation(False), no_warnings_of_nan():
            tasks = {name: replicas.task(pair, together=self.together) for name, replicas in self.replicas.items()}
            times = interleaved({name: task for name, (task, _) in tasks.items()}, device=pair.device)
        return {name: (ms / tasks[name][1], se / tasks[name][1]) for name, (ms, se) in times.items()}


def _statistics(m: Moments, time: tuple[float, float], rounding: float) -> dict[str, Any]:
    (norm, norm_se), (variance, variance_se), (snr, snr_se) = (f(m) for f in (mean_norm, variance_of, snr_of))
    ms, ms_se = time
    without = variances_without(m)
    if variance <= rounding**2:  # the ratio of this to any other variance would consist of rounding errors
        variance, variance_se, snr, snr_se, without = 0.0, 0.0, math.inf, 0.0, torch.zeros_like(without)
    return {
        "mean_norm": norm,
        "variance": variance,
        "variance_se": variance_se,
        "snr": snr,
        "ms_per_gradient": ms,
        "variance_time": variance * ms,
        "mean_norm_se": norm_se,
        "snr_se": snr_se,
        "ms_se": ms_se,
        "variance_time_se": math.hypot(variance_se * ms, variance * ms_se),
        "heaviest_block": heaviest_block(m),
        "variances_without": without.tolist(),
    }


def _bias(m: Moments, truth: Moments | Tensor | None, index: Tensor, rounding: float) -> dict[str, float]:
    if truth is None:
        found = UNKNOWN
    else:
        right = truth.select(index) if isinstance(truth, Moments) else truth[index]
        found = bias(m.select(index), right, rounding)
    return {
        "bias_z": found.z,
        "bias": found.norm,
        "bias_se": found.norm_se,
        "bias_resolution": found.resolution,
        "oracle_share": found.oracle_share,
    }


def _directional(seen: Directions, group: str, *, known: bool) -> dict[str, Any]:
    dsnr, dsnr_se = seen.dsnr(group)
    truth = seen.norms[group] if known else math.nan
    return {"dsnr": dsnr, "dsnr_se": dsnr_se, "along": seen.along(group), "truth": truth}
