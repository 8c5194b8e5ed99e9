"""The evidence: how probable some data are under a model, and whether an estimate is exact or a bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import rng
from ..arguments.choice import Choice
from ..arguments.takes import takes
from ..data.dataset import Batch, Dataset
from ..drawing.simulation import simulate
from ..errors import Unsuitable
from ..guides import in_words
from ..pair.pair import Pair
from ..pair.paired import Model
from ..pair.problem import Problem
from ..pair.sites import latents
from ..pair.subsample import refuse, seen_of
from ..pair.support import missed
from ..pair.tempered import require_weights
from ..summaries.card import Card, Displayable, rounded, with_error
from .advice import advice_of
from .annealing import annealed
from .importance import FEW, Weights, require_densities, weights, weights_of_parts
from .tabulate import tabulate

Method = Literal["auto", "exact", "elbo", "iw", "ais", "sandwich"]
Direction = Literal["exact", "lower", "between"]

PARTICLES = {"elbo": 100, "iw": 100, "ais": 16, "sandwich": 16}
THERE, BACK = 1, 2  # purposes of the random streams: chains to the posterior, and from it
SANDWICH = "method='sandwich' needs data simulated from the model, whose latents are an exact draw from their posterior, so it can't be used here. For the data themselves use method='ais'"
ALONE = 2.0  # effective draws: a single draw carries the weight, as one would with ten times as many draws


@dataclass(frozen=True, repr=False)
class Evidence(Displayable):
    """Result of `vb.log_evidence`: log p(x) of some data, or bounds on it, in nats.

    Attributes:
        value: log p(x) of all rows; the midpoint where there are two bounds.
        se: Its standard error over the draws; 0 for exact numbers.
        direction: "exact"; "lower": the estimate is on average at most log p(x); "between": log p(x) lies between `low` and `high`.
        low, high: Bounds, ±∞ where there is none; both equal `value` where it is exact.
        method: A description of the method, with the number of draws.
        pair, data: Names of the pair and of the data.
        rows: Number of rows, N.
        per_datum: (N,) log p(x) of each row, and likewise `per_datum_se`; None where the rows share a latent and so are not independent.
        elbo: The guide's ELBO, where the evidence has a closed form (which does not depend on the guide); otherwise None.
        uncovered: Sites whose values the guide can't all draw. The value then stays below log p(x), however many draws are made.
        effective: (N,) or (1,) effective number of draws behind an importance-weighted value; None for other methods.
        simulated: Whether `value`, `low` and `high` are of data that the model simulated in the shape of `data`, not of `data` themselves.
        guide, mend: A description of the guide, and what to try when a single draw carries nearly all of the weight; empty if there is nothing to say.
    """

    value: float
    se: float
    direction: Direction
    low: float
    high: float
    method: str
    pair: str
    data: str
    rows: int
    per_datum: np.ndarray | None = None
    per_datum_se: np.ndarray | None = None
    effective: np.ndarray | None = None
    elbo: float | None = None
    uncovered: tuple[str, ...] = ()
    guide: str = ""
    mend: str = ""
    simulated: bool = False

    def card(self) -> Card:
        """The value, its error, and whether it is exact or a bound."""
        bounds = f"between {rounded(self.low, 6)} and {rounded(self.high, 6)}"
        direction = {"exact": "exact", "lower": "a lower bound, on average", "between": bounds}[self.direction]
        rows = [("data", f"simulated from the model; not {self.data!r} itself")] if self.simulated else []
        rows += [("log p(x)", f"{with_error(self.value, self.se or math.nan, 6)} nats, {direction}")]
        rows += [("guide", self.guide)] if self.guide else []
        if self.rows > 1:
            rows.append(("each", f"{rounded(self.value / self.rows)} nats per datum, over {self.rows:,} rows"))
        if self.elbo is not None:
            rows.append(("ELBO", f"{rounded(self.elbo, 6)} nats, for the guide"))
        if self.effective is not None:
            which = " for the worst datum" if self.per_datum is not None else ""
            rows.append(("carried by", f"{rounded(float(np.min(self.effective)), 3)} draws{which}"))
        if self.uncovered:
            rows.append(("not covered", f"by the guide: {', '.join(self.uncovered)}"))
        return Card(
            f"Evidence: {self.pair} on {'data simulated like ' * self.simulated}{self.data}",
            (*rows, ("method", self.method)),
        )

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each datum, with `log_evidence` and `se` in nats; a single row where the data are not independent. `simulated` marks rows that are not those of the data."""
        marks = {"simulated": True} if self.simulated else {}
        if self.per_datum is None:
            return pd.DataFrame({"log_evidence": [self.value], "se": [self.se], **marks})
        return pd.DataFrame({"log_evidence": self.per_datum, "se": self.per_datum_se, **marks})

    def verdict(self) -> str:
        """The result in one sentence, or two if the guide can't be trusted."""
        return self._value() + missed(self.uncovered)

    def _value(self) -> str:
        each = f", {self.value / self.rows:.4g} per datum" if self.rows > 1 else ""
        if self.direction == "exact":
            guide = "" if self.elbo is None else f" The ELBO of the guide is {self.elbo:.6g}."
            return f"log p(x) = {self.value:.6g} nats{each} ({self.method}).{guide}"
        if self.direction == "between":
            gap = f"a lower bound of {self.low:.6g} and an upper one of {self.high:.6g} on average"
            if self.low > self.high:
                gap += ", which cross, so their noise is larger than the gap between them"
            return f"For data simulated from the model in the shape of {self.data!r}, not for {self.data!r} itself: log p(x) is about {self.value:.6g} ± {self.se:.2g} nats{each}: {gap} ({self.method})."
        text = f"log p(x) is at least {self.value:.6g} ± {self.se:.2g} nats{each} ({self.method})"
        if self.effective is None or (least := float(np.min(self.effective))) >= FEW:
            return text + "."
        carry = f"{least:.1f} draws carry the weight of {'the data' if self.per_datum is None else 'one datum'}"
        if least < ALONE:
            return f"{text}; {carry}, so it may be far too low{f': {self.mend}' if self.mend else ''}."
        return f"{text}; {carry}: more particles would raise it."


@takes(method=Choice(get_args(Method), "way to an evidence"))
def log_evidence(
    pair: Model,
    data: Any = None,
    method: Method = "auto",
    *,
    num_particles: int | None = None,
    temperatures: int = 200,
    batch_size: int = 1000,
    seed: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Evidence:
    """Estimates log p(x) by the best method that a pair allows, and says whether the value is exact, a lower bound or between two bounds.

    Args:
        pair: Model and guide; a fit brings its data.
        data: As for `fit`; may be new rows if the guide is amortized, that is, computes q(z|x) from a row x.
        method: "exact": closed form, or a table of all values of few latents. "elbo": E_q[log w]. "iw": the importance-weighted bound of K
            particles (Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519), which rises with K towards the truth. "ais": annealed
            importance sampling from the guide to the posterior (Neal 2001, doi:10.1023/A:1008923215028; Wu et al. 2017,
            arXiv:1611.04273), for continuous latents. "sandwich": a lower and an upper bound for data that the model simulates
            in the shape of `data`, never for `data` themselves: the upper bound needs an exact draw from the posterior, which only the latents of simulated data are. It tells how
            well annealing works for this model (Grosse, Ghahramani & Adams 2015, arXiv:1511.02543); the result is marked as `simulated`. For `data` themselves, "ais". "auto": exact where
            the pair has a closed form, else "iw".
        num_particles: K, the number of draws or chains for each datum; if None, 100 draws or 16 chains.
        temperatures: T, the number of annealing temperatures.
        batch_size: Rows processed at a time, where each row has its own latents. It changes which random numbers are drawn, and nothing else.
        seed: Seed for all random numbers.
        device: As for `fit`; with "auto" a fit stays on its device.
        progress: Whether to show a progress bar.

    Returns:
        The evidence in total and for each datum, with standard errors.

    Raises:
        BadInput: An unknown method, or fewer than one particle, temperature or row at a time.
        BadPair: Model and guide do not fit together, or not with the data.
        Unsuitable: The method can't be used with this pair; the message says why. A model that draws a part of its rows itself (`plate(..., subsample_size=)`) has an
            ELBO, which is unbiased; but the logarithm of a mean of such weights may lie above log p(x), so it is no lower bound. A guide that scales a log-density (`poutine.scale`) has no weights.

    Examples:
        >>> fit = vb.fit(vb.pairs.vae(), vb.data.digits(), epochs=50, batch_size=100)
        >>> print(vb.log_evidence(fit, method="iw", num_particles=1000).verdict())
    """
    count = PARTICLES.get(method, PARTICLES["iw"]) if num_particles is None else num_particles
    given, own = pair, data is None
    seed, problem = rng.or_default(seed), Problem.of(pair, data, device=device)
    pair, dataset = problem.pair, problem.data
    named: dict[str, Any] = {"pair": pair.name, "data": dataset.name, "rows": len(dataset)}
    named["guide"] = in_words(pair.guide, getattr(given, "tried", ()))
    if method in ("auto", "exact") and pair.exact is not None:
        with pair.scope(), torch.no_grad():
            closed = pair.exact.log_evidence_per_datum or pair.exact.log_evidence
            named["elbo"] = float(pair.exact.elbo(*problem.rows.args))
            return _exact(closed(*problem.rows.args).double(), "closed form", named)
    named["uncovered"] = problem.uncovered
    require_weights(pair, problem.rows)
    if problem.seen and method == "elbo":
        require_densities(pair, problem.rows)
        drawn = weights(pair, problem.rows, count, seed, together=True)
        return _lower([drawn], f"ELBO, {count} draws of latents and rows", named, Weights.elbo)
    whole = _all_rows(problem)
    if not _latents(pair, whole):
        return _exact(weights(pair, whole, 1, seed).elbo()[0], "nothing is drawn", named)
    if method == "exact":
        with pair.scope(), torch.no_grad():
            return _exact(tabulate(pair, whole).log_evidence(), "tabulated", named)
    require_densities(pair, whole)
    chunks = _chunks(pair, dataset, whole, batch_size, seed)
    seeds = rng.children(seed, len(chunks))
    if method in ("ais", "sandwich"):
        how: dict[str, Any] = {"chains": count, "temperatures": temperatures, "progress": progress}
        words = f"{count} chains, {temperatures} temperatures"
        if method == "sandwich" and problem.uncovered:
            raise Unsuitable(
                f"method='sandwich' bounds the evidence of data simulated from the model, whose latents are an exact draw from their posterior. The guide of pair {pair.name!r} can't draw all values that "
                f"{', '.join(map(repr, problem.uncovered))} may have, so no chain can return to it from all of them, and there is no upper bound. Wanted: a guide over the model's support, or method='iw'."
            )
        parts = [f", part {n} of {len(chunks)}" if len(chunks) > 1 else "" for n in range(1, len(chunks) + 1)]
        if method == "ais":
            each = zip(chunks, seeds, parts, strict=True)
            there = [annealed(pair, b, seed=s, origin=None, part=part, **how) for b, s, part in each]
            return _advised(_lower(there, f"annealed importance sampling, {words}", named), given, problem, own)
        made = [simulate(pair, b, s, SANDWICH) for b, s in zip(chunks, seeds, strict=True)]
        there = [
            annealed(pair, m.batch, seed=rng.child(seed, THERE, n), origin=None, part=parts[n], **how)
            for n, m in enumerate(made)
        ]
        back = [
            annealed(pair, m.batch, seed=rng.child(seed, BACK, n), origin=m.made, part=parts[n], **how)
            for n, m in enumerate(made)
        ]
        return _between(there, back, f"annealing there and back, {words}", named)
    found = weights_of_parts(pair, chunks, count, seeds, progress=progress)
    if method == "elbo":
        return _lower(found, f"ELBO, {count} draws", named, Weights.elbo)
    return _advised(_lower(found, f"importance-weighted bound, {count} particles", named), given, problem, own)


def _advised(found: Evidence, given: Any, problem: Problem, own: bool) -> Evidence:
    """Adds advice if about one draw carries all of the weight."""
    alone = found.effective is not None and float(np.min(found.effective)) < ALONE
    return replace(found, mend=advice_of(given, problem, "bad", own=own).mend) if alone else found


def _all_rows(problem: Problem) -> Batch:
    """All rows, for a pair whose model uses all of them."""
    if problem.seen:
        why = "a weight computed from only some of the rows is not a weight of the data, and the logarithm of a mean of such weights may lie above log p(x)"
        raise Unsuitable(f"{refuse(problem.pair, problem.seen, why)} Or use method='elbo', which is unbiased.")
    return problem.whole


def _latents(pair: Pair, batch: Batch) -> list[str]:
    with pair.look(), torch.no_grad():
        q, _ = pair.run(batch)
    return [site["name"] for site in latents(q)]


def _chunks(pair: Pair, data: Dataset, whole: Batch, batch_size: int, seed: int) -> list[Batch]:
    """The rows in parts of the given size, if each row has its own weight and the model does not scale them up; otherwise all rows."""
    if batch_size >= len(data) or weights(pair, whole, 1, seed).mean.shape != (len(data),):
        return [whole]
    index = torch.arange(len(data), device=data.first.device)
    chunks = [Batch(data.batch(pair.model, part).args) for part in index.split(batch_size)]
    return [whole] if seen_of(pair, chunks[0]) else chunks


def _cat(parts: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Of all chunks."""
    values, errors = zip(*parts, strict=True)
    return torch.cat([v.reshape(-1) for v in values]), torch.cat([e.reshape(-1) for e in errors])


def _each(value: Tensor, rows: int) -> np.ndarray | None:
    return value.reshape(-1).cpu().numpy() if value.dim() and value.numel() == rows else None


def _exact(value: Tensor, words: str, named: dict[str, Any]) -> Evidence:
    each = _each(value, named["rows"])
    total = float(value.sum())
    zeros = None if each is None else np.zeros_like(each)
    return Evidence(total, 0.0, "exact", total, total, words, **named, per_datum=each, per_datum_se=zeros)


def _lower(
    found: Sequence[Weights], words: str, named: dict[str, Any], of: Callable[..., Any] = Weights.evidence
) -> Evidence:
    values, errors = _cat(of(one) for one in found)
    total, se, rows = float(values.sum()), float(errors.square().sum().sqrt()), named["rows"]
    effective = torch.cat([one.effective().reshape(-1) for one in found]).cpu().numpy()
    return Evidence(
        total, se, "lower", total, math.inf, words, **named,
        per_datum=_each(values, rows), per_datum_se=_each(errors, rows), effective=effective if of is Weights.evidence else None,
    )  # fmt: skip


def _between(there: Sequence[Weights], back: Sequence[Weights], words: str, named: dict[str, Any]) -> Evidence:
    """Bounds from chains that end at the posterior, and from chains that start there, over which the mean of 1/w is 1/p(x)."""
    low, low_se = _cat(one.bound() for one in there)
    high, high_se = _cat(one.bound() for one in back)
    se, rows = (low_se.square() + high_se.square()).sqrt(), named["rows"]
    bottom, top = float(low.sum()), -float(high.sum())
    return Evidence(
        (bottom + top) / 2, float(se.square().sum().sqrt()), "between", bottom, top, words, **named,
        per_datum=_each((low - high) / 2, rows), per_datum_se=_each(se, rows), simulated=True,
    )  # fmt: skip
