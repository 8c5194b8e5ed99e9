"""Where the noise of a gradient comes from: the minibatch, or the draws of the latents."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from pyro.infer import ELBO

from .. import rng
from ..arguments.kind import Several
from ..arguments.names import SOME
from ..arguments.takes import takes
from ..arguments.whole import Whole
from ..data.dataset import Batch, Dataset
from ..errors import BadInput, Unsuitable
from ..estimators import name_of, resolve
from ..estimators.base import Estimator
from ..estimators.remembering import Averaging
from ..estimators.suits import check_suits
from ..guides import in_words
from ..pair.check import require_parameters
from ..pair.pair import Pair
from ..pair.paired import Model
from ..pair.problem import Problem, pair_and_data
from ..progress import bar
from ..staging import draw_noise
from ..summaries.card import Card, Displayable, rounded
from .replicas import Replicas
from .variance_parts import fitted_law, variance_parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "batch_size",
    "particles",
    "minibatch",
    "minibatch_se",
    "particle",
    "particle_se",
    "total",
    "total_se",
    "predicted",
)

MEMORIES = 50  # blocks for an estimator that averages over earlier draws, whose randomness is part of its noise
MOST = 4  # M and L on a card


@dataclass(frozen=True, repr=False)
class NoiseSplit(Displayable):
    """Result of `vb.noise_split`: the parts of a gradient's variance, and predictions for other splits of the same budget.

    The trace of the covariance of a gradient from M of N rows, drawn without replacement, with L draws of the latents, is
    predicted as S (1/M − 1/N) + a / (M L) + b / L, for minibatches, latents of single rows, and latents shared by all rows.

    Attributes:
        pair, estimator: Names of the pair and of the estimator.
        rows: Number of rows, N.
        table: One row for each M and L measured; see `to_dataframe`.
        between, local, shared: S, a and b, nats².
        guide: A description of the guide; empty for a user-defined one.
    """

    pair: str
    estimator: str
    rows: int
    table: tuple[dict[str, float], ...]
    between: float
    local: float
    shared: float
    guide: str = ""

    def card(self) -> Card:
        """The share of the minibatch in the noise, for each M and L."""
        rows = [("guide", self.guide)] if self.guide else []
        for row in self.table[:MOST]:
            share = row["minibatch"] / row["total"] if row["total"] else 0.0
            part = f"{rounded(100 * share, 2)} % of {rounded(row['total'], 3)} nats² come from the minibatch"
            rows.append((f"M = {row['batch_size']:g}, L = {row['particles']:g}", part))
        law = f"{rounded(self.between, 3)} (1/M − 1/{self.rows}) + {rounded(self.local, 3)} / (M L) + {rounded(self.shared, 3)} / L"
        return Card(f"NoiseSplit: {self.estimator} on {self.pair}, N = {self.rows:,}", (*rows, ("law", law)))

    def predict(self, batch_size: int, particles: int) -> float:
        """Predicted variance of a gradient from `batch_size` rows and `particles` draws, in nats²."""
        return self.between * (1 / batch_size - 1 / self.rows) + (self.local / batch_size + self.shared) / particles

    def splits(self, budget: int) -> pd.DataFrame:
        """Every way to spend M × L = budget evaluations, with the predicted variance, best first."""
        whole = [m for m in range(1, min(budget, self.rows) + 1) if budget % m == 0]
        rows = [{"batch_size": m, "particles": budget // m, "variance": self.predict(m, budget // m)} for m in whole]
        return pd.DataFrame(rows).sort_values("variance", ignore_index=True)

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each M and L: the noise of the minibatch, that of the draws, and their sum, in nats², with standard errors.

        `predicted` is the `total` predicted by a fit to the other rows only, as a test of the formula; NaN with fewer than three other rows.
        """
        found = []
        for number, row in enumerate(self.table):
            others = [*self.table[:number], *self.table[number + 1 :]]
            predicted = math.nan
            if len(others) >= 3:
                between, local, shared = fitted_law(others, self.rows)
                law = replace(self, between=between, local=local, shared=shared)
                predicted = law.predict(int(row["batch_size"]), int(row["particles"]))
            found.append({**row, "predicted": predicted})
        return pd.DataFrame(found)[list(COLUMNS)]

    def verdict(self, budget: int = 100) -> str:
        """Where the noise comes from, and the best way to split a budget of evaluations."""
        table = self.to_dataframe()
        row = table.iloc[(table.batch_size - budget).abs().argmin()]
        share = row.minibatch / row.total if row.total else 0.0
        best = self.splits(budget)
        first, one = best.iloc[0], best[best.particles == best.particles.min()].iloc[0]
        text = (
            f"With {row.batch_size:.0f} of {self.rows} rows and {row.particles:.0f} draw{'s' * int(row.particles != 1)} of {self.estimator}, {share:.0%} of the gradient's variance "
            f"comes from the minibatch. {budget} evaluations are best spent on {first.batch_size:.0f} rows with {first.particles:.0f} draw{'s' * int(first.particles != 1)} each"
        )
        if first.particles == one.particles:
            return text + "."
        return (
            text
            + f": {one.variance / first.variance:.2g}× less variance than {one.batch_size:.0f} rows with {one.particles:.0f}."
        )

    def plot(self) -> Figure:
        """Plots both parts of the noise for each M and L."""
        from matplotlib import pyplot

        from ..plots import noise_split as draw

        figure, ax = pyplot.subplots(figsize=(7, 4), layout="constrained")
        draw(self.to_dataframe(), ax)
        return figure


@takes(minibatches=Whole(10, drawn=True), batch_sizes=Several(Whole(1)), particles=Several(SOME))
def noise_split(
    pair: Model,
    data: Any = None,
    estimator: Any = "analytic_kl",
    *,
    batch_sizes: Sequence[int] = (10, 100),
    particles: Sequence[int] = (1, 4),
    minibatches: int = 200,
    draws: int = 50,
    seed: int | None = None,
    memory: int | None = None,
    progress: bool = True,
) -> NoiseSplit:
    """Splits the variance of a gradient into the parts of minibatch and draws, by the law of total variance: Var = Var_B(E[g|B]) + E_B(Var[g|B]).

    Uses a nested design: many minibatches B, with many draws for each. Both parts are estimated without bias (analysis of variance), with
    jackknife errors over the minibatches. For an estimator with moving averages, the jackknife is over blocks of minibatches with independent
    averages, so that their randomness is included in the errors.

    Args:
        pair: The pair, at the parameters to measure at; a fit brings its data.
        data: As for `fit`.
        estimator: A vbayes estimator with `num_particles`, or its name.
        batch_sizes: Minibatch sizes M.
        particles: Numbers of draws L; those that the estimator does not allow are left out.
        minibatches, draws: Size of the design, at least 10 and 2.
        seed: Seed for all random numbers.
        memory: Memory that a chunk of gradients may take, in bytes; a quarter of the free memory if None.
        progress: Whether to show a progress bar.

    Raises:
        BadInput: The design is too small for a variance, or a batch is as large as the data, which leaves no minibatch noise.

    References:
        Kingma & Welling 2013, arXiv:1312.6114, section 2.3, who take M = 100 and L = 1.
    """
    seed = rng.or_default(seed)
    pair, data = pair_and_data(pair, data)
    dataset, method = Dataset.of(data), resolve(estimator)
    _check(dataset, method, batch_sizes)
    least = getattr(method, "min_particles", 1)
    counts = [n for n in particles if n >= least]
    if not counts:
        raise BadInput(f"particles={tuple(particles)} are too few for {name_of(method)}. Wanted: at least {least}.")
    problem = Problem.of(pair, dataset, batch_size=batch_sizes[0])
    pair, dataset = problem.pair, problem.data
    check_suits(pair, problem.first, method)
    require_parameters(pair)
    rows: list[dict[str, float]] = []
    designs = [(m, n) for m in batch_sizes for n in counts]
    with bar("noise", len(designs), show=progress, unit="design") as advance:
        for done, (m, n) in enumerate(designs, start=1):
            varied = replace(method, num_particles=n)  # type: ignore[type-var]
            rows.append(split_of(pair, dataset, varied, m, n, minibatches, draws, seed, memory))
            advance(done, functools.partial("{} rows, {} draws".format, m, n))
    between, local, shared = fitted_law(rows, len(dataset))
    return NoiseSplit(
        pair.name, name_of(method), len(dataset), tuple(rows), between, local, shared, in_words(pair.guide)
    )


def _check(data: Dataset, method: ELBO, batch_sizes: Sequence[int]) -> None:
    if not isinstance(method, Estimator):
        raise Unsuitable(
            f"{name_of(method)} has no number of particles to vary. Wanted: a vbayes estimator, such as vb.AnalyticKL()."
        )
    if not batch_sizes or any(not 1 <= m < len(data) for m in batch_sizes):
        raise BadInput(
            f"batch_sizes={tuple(batch_sizes)}. Wanted: sizes from 1 to {len(data) - 1}, for {len(data)} rows."
        )


def split_of(
    pair: Pair, data: Dataset, method: ELBO, m: int, n: int, minibatches: int, draws: int, seed: int, memory: int | None
) -> dict[str, float]:
    """Both parts of the variance at M = m and L = n, as in `NoiseSplit.to_dataframe`."""
    like = next(iter(pair.parameters.values()))
    generator = rng.stream(seed, m)  # the same minibatches for every number of draws

    def drawn(generator: torch.Generator) -> Batch:
        return data.batch(pair.model, torch.randperm(len(data), generator=generator, device="cpu")[:m].to(like.device))

    replicas: Replicas | None = None
    memories = MEMORIES if isinstance(method, Averaging) else minibatches
    means, inner = [], []
    for number in range(minibatches):
        batch = drawn(generator)
        if replicas is None:
            replicas = Replicas(pair, method, batch, compiled=minibatches * draws > 2000, memory=memory, varying=True)
            before = rng.stream(seed, m, n)  # the minibatches for moving averages, different ones in each block
            replicas.settle(pair, rng.child(seed, m, n), memories=memories, batch=functools.partial(drawn, before))
        replicas.recall(number)
        replicas.batch = batch
        noise = draw_noise(replicas.sizes, draws, like, rng.stream(seed, m, n, number, device=like.device))
        gradients = torch.cat([chunk.double() for chunk in replicas.gradients(pair, noise, number)])
        means.append(gradients.mean(0))
        inner.append(gradients.var(0).sum())
    return {"batch_size": m, "particles": n, **variance_parts(torch.stack(means), torch.stack(inner), draws, memories)}
