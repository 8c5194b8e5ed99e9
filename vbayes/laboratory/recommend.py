"""Recommends an estimator for a pair at its current parameters, from a short comparison."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .. import rng
from ..arguments.choice import FLAG
from ..arguments.kind import Optional, Several
from ..arguments.names import SOME
from ..arguments.takes import takes
from ..data.dataset import Batch
from ..drawing.base_noise import NOISE, NoiseKind
from ..errors import BadInput, Unsuitable
from ..estimators import ESTIMATORS, name_of, resolve
from ..estimators.base import Estimator
from ..estimators.remembering import Remembering
from ..estimators.suits import suits
from ..guides import in_words
from ..pair.check import require_parameters
from ..pair.pair import Pair
from ..pair.paired import Model
from ..pair.problem import Problem
from ..progress import bar
from ..summaries.differences import cost_ratio
from ..summaries.joint import pairs_limit
from ..training.result import Fit
from .bench import Bench
from .compare import ESTIMATOR
from .noise_split import split_of
from .oracle import labels, target
from .recommendation import Recommendation

FIRST, LATER = (
    2,
    10,
)  # replicas in each of 50 blocks: the first round separates good candidates from hopeless ones, the last one the best from the good ones
KEPT = (3, 5)  # candidates after the first and the second round, at most ...
HOPELESS = 3.0  # ... and none with more than this multiple of the cost of the best
MINIBATCHES, DRAWS = 60, 8  # size of the nested design that estimates the minibatch's noise
DEARER = 2  # a candidate in the last round, with machine code, takes this multiple of its time in the first round

UNTRIED = ("trace", "rebar", "relax", "path_gradient", "arm", "quadratic", "fitted_quadratic")
CANDIDATES = tuple(
    name
    for name, kind in ESTIMATORS.items()
    if kind.bound == "ELBO" and kind.unbiased_in == {"model", "guide"} and name not in UNTRIED
)
"""The unbiased estimators of the ELBO, except: Trace, which equals Pathwise or Score; REBAR, whose temperature must be chosen by hand; RELAX and FittedQuadratic, which depend on their training; PathGradient, which
equals STL; ARM, a noisier DisARM; and Quadratic, which has a gradient for each latent to capture."""


@takes(candidates=Optional(Several(ESTIMATOR)), compile=FLAG, particles=Several(SOME), noise=Several(NOISE))
def recommend(
    pair: Model,
    data: Any = None,
    candidates: Sequence[Any] | None = None,
    *,
    batch_size: int | None = None,
    particles: Sequence[int] = (1, 4, 16),
    noise: Sequence[NoiseKind] = ("iid", "antithetic", "sobol"),
    budget: float = 30.0,
    seed: int | None = None,
    device: str = "auto",
    compile: bool = True,
    memory: int | None = None,
    progress: bool = True,
) -> Recommendation:
    """Finds the ELBO estimator, number of particles and kind of noise with the least variance × time at the pair's current parameters.

    There are three rounds: every candidate with its default settings; the best few with other numbers of particles and other noise; and the best of those once
    more, with more draws. The variance is that over the draws plus that of the minibatch, which is the same for all: if most of the noise comes from the
    minibatch, more particles are not worth their cost.

    Args:
        pair: The pair, at the parameters to measure at; a fit brings its data and batch size.
        data: As for `fit`.
        candidates: Names or objects of unbiased estimators of the same bound; if None, those of the ELBO that suit the pair.
        batch_size: M, rows in a minibatch; all rows if None.
        particles: Numbers of particles K to try.
        noise: Kinds of noise to try.
        budget: Approximate time to spend, in seconds; the second round tries as many variants as it allows.
        seed: Seed for the draws. All results except timings are determined by it.
        device: As for `fit`.
        compile: Whether to time gradients as in compiled training. In training step by step in Pyro, the overhead of calls dominates, and other
            estimators may be best.
        memory: Memory that a chunk of gradients may take, in bytes; a quarter of the free memory if None.
        progress: Whether to show a progress bar.

    Raises:
        BadInput: There are no candidates, or they have different bounds.
        Unsuitable: No candidate suits the pair.

    Examples:
        >>> found = vb.recommend(pair, vb.data.digits(), batch_size=100)
        >>> print(found.verdict())
        >>> fit = vb.fit(pair, vb.data.digits(), found.estimator, batch_size=100)

    References:
        Geffner & Domke 2020, A rule for gradient estimator selection, arXiv:1911.01894.
    """
    began, seed = time.perf_counter(), rng.or_default(seed)
    if isinstance(pair, Fit):
        batch_size = batch_size or pair.batch_size
    problem = Problem.of(pair, data, batch_size=batch_size, device=device)
    pair, dataset, batch = problem.pair, problem.data, problem.draw(seed)
    require_parameters(pair)
    contest = _Contest(pair, batch, seed, compile, memory)
    with bar("recommend", 3, show=progress, unit="round") as advance:
        first = contest.round(_suitable(pair, batch, candidates), FIRST)
        split = {"minibatch": 0.0, "minibatch_se": 0.0}
        if batch_size not in (None, len(dataset)):
            quiet = first[0][0]
            split = split_of(
                pair, dataset, quiet, batch_size or 0, quiet.num_particles, MINIBATCHES, DRAWS, seed, memory
            )
            contest.minibatch = max(0.0, split["minibatch"])
            first = contest.ranked(first)
        each = (time.perf_counter() - began) / len(first)  # seconds; most of it is for capturing
        advance(1, functools.partial(str, name_of(first[0][0])))
        varied = _varied(pair, batch, _best(first, KEPT[0]), particles, noise)
        room = int((budget - (time.perf_counter() - began)) / each) - KEPT[1] * DEARER
        second = contest.round(varied[: max(room, 1)], FIRST) if varied else []
        advance(2, functools.partial("{} variants".format, len(second)))
        both = contest.ranked([*first, *second])
        third = contest.round(_best(both, KEPT[1]), LATER, last=True)
        advance(3, functools.partial(str, name_of(third[0][0])))
    tied = [method for method, row in third if row["cost_ratio"] - 1 <= pairs_limit(len(third)) * row["cost_ratio_se"]]
    return Recommendation(
        estimator=min(tied, key=_simplicity),
        pair=pair.name,
        data=dataset.name,
        batch_size=batch_size or len(dataset),
        minibatch=contest.minibatch,
        minibatch_se=split["minibatch_se"],
        rows=tuple({"round": n, **row} for n, rows in enumerate((first, second, third), start=1) for _, row in rows),
        seconds=time.perf_counter() - began,
        guide=in_words(pair.guide),
    )


Entry = tuple[Estimator, dict[str, Any]]


class _Contest:
    """Measures candidates on the same draws and ranks them by cost."""

    def __init__(self, pair: Pair, batch: Batch, seed: int, compiled: bool, memory: int | None) -> None:
        self.pair, self.batch, self.seed, self.compiled, self.memory = pair, batch, seed, compiled, memory
        self.minibatch = 0.0

    def round(self, methods: Sequence[Estimator], size: int, *, last: bool = False) -> list[Entry]:
        """Each candidate with its row, best first, from `size` replicas in each block. Only the last round uses machine code, which takes longer to make."""
        named = {name_of(method): method for method in methods}
        everything = {"all": tuple(self.pair.parameters)}
        bench = Bench(
            self.pair, self.batch, dict(named), {}, everything, size, self.seed,
            compiled=self.compiled and last, together=self.compiled, strict=False, memory=self.memory,
        )  # fmt: skip
        rows = [row for piece in bench.measure("here", self.pair, self.seed) for row in piece]
        if not rows:
            raise Unsuitable(
                f"No gradient of pair {self.pair.name!r} by {', '.join(named)} is finite here. Wanted: another point."
            )
        return self.ranked([(named[row["estimator"]], row | {"noise": named[row["estimator"]].noise}) for row in rows])

    def ranked(self, entries: Sequence[Entry]) -> list[Entry]:
        """Sorts candidates by cost = (variance + that of the minibatch) × time, and adds the ratio to the best with its paired error."""
        cost = [(row["variance"] + self.minibatch) * row["ms_per_gradient"] for _, row in entries]
        order = sorted(range(len(cost)), key=cost.__getitem__)
        best = entries[order[0]][1]
        found = []
        for i in order:
            method, row = entries[i]
            ratio, se = cost_ratio(row, best, self.minibatch)
            found.append(
                (method, row | {"minibatch": self.minibatch, "cost": cost[i], "cost_ratio": ratio, "cost_ratio_se": se})
            )
        return found


def _simplicity(method: Estimator) -> tuple[int, bool, bool]:
    """A key for simplicity: fewer particles, independent particles, no memory."""
    return method.num_particles, method.noise != "iid", isinstance(method, Remembering)


def _best(entries: Sequence[Entry], most: int) -> list[Estimator]:
    return [method for method, row in entries[:most] if row["cost_ratio"] < HOPELESS]


def _suitable(pair: Pair, batch: Batch, candidates: Sequence[Any] | None) -> list[Estimator]:
    found = [resolve(e) for e in (CANDIDATES if candidates is None else candidates)]
    wrong = [name_of(e) for e in found if not isinstance(e, Estimator)]
    if wrong or not found:
        raise BadInput(f"candidates={wrong} are not valid. Wanted: one or more vbayes estimators, or their names.")
    methods = [e for e in found if isinstance(e, Estimator)]
    if biased := [name_of(e) for e in methods if e.unbiased_in != {"model", "guide"}]:
        raise BadInput(f"candidates={biased} are biased, so low noise does not make them good. Leave them out.")
    bounds = list(dict.fromkeys(labels({name_of(e): e for e in methods}).values()))
    if len(bounds) > 1:
        raise BadInput(
            f"The candidates estimate different bounds ({'; '.join(bounds)}), so their gradients can't be compared. Wanted: one bound."
        )
    suitable = [e for e in methods if suits(pair, batch, e)]
    if not suitable:
        raise Unsuitable(
            f"None of {', '.join(map(name_of, methods))} can be used with pair {pair.name!r}; `vbayes list` shows what each needs."
        )
    return suitable


def _varied(
    pair: Pair, batch: Batch, methods: Sequence[Estimator], particles: Sequence[int], noise: Sequence[NoiseKind]
) -> list[Estimator]:
    """Variants of candidates with other numbers of particles and other noise, if they allow them and still estimate the same bound."""
    found: list[Estimator] = []
    for method in methods:
        for count in particles:
            for kind in noise if count > 1 else ("iid",):
                try:
                    other = replace(method, num_particles=count, noise=kind)
                except BadInput:
                    continue
                if target(other) != target(method):
                    continue
                if other != method and other not in found and suits(pair, batch, other):
                    found.append(other)
    return found
