"""Tests the claims of an estimator on small pairs with known answers."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from .. import rng
from ..arguments.choice import Choice
from ..arguments.kind import Optional, Several
from ..arguments.takes import takes
from ..data.dataset import Batch
from ..errors import BadInput, Unsuitable
from ..estimators import name_of, resolve
from ..estimators.base import Estimator
from ..estimators.suits import check_suits, suits
from ..pair.pair import Pair
from ..pair.parameter_groups import parameter_groups
from ..pairs import TRACTABLE
from ..progress import bar
from ..summaries.card import Card, Displayable, first_few
from ..summaries.listed import listed
from .bias import SEEN
from .compare import compare
from .derivative import Derivative
from .own_values import against_own_values
from .replicas import Replicas

AWAY = 0.2  # sd of what parameters are moved by, so that no symmetry hides a bias
SMALL = 0.5  # of a typical draw: a bias of this size must have been seen
OWN = "its own values"
DRAWS = "its bound along the path"


@dataclass(frozen=True)
class OnPair:
    """Result of checking an estimator on one pair.

    Attributes:
        pair: Name of the pair.
        captured: "yes" if its gradients can be captured and compiled; otherwise the reason why not.
        judged: "yes" if compared with the exact gradient; "its bound along the path" if a table would be too large, and it was compared with the derivative of `Objective.of_draws` at other draws;
            "its own values" if neither is known, and it was compared with differences of its mean value; otherwise the reason why not judged.
        claimed: The parameters for whose gradient it claims to be unbiased: "model", "guide", "model, guide" or none.
        bias_z: Bias in standard errors; NaN if not judged.
        resolution: The smallest detectable bias, relative to the size of typical draws.
    """

    pair: str
    captured: str
    judged: str
    claimed: str
    bias_z: float
    resolution: float

    @property
    def biased(self) -> bool:
        """Whether the estimator is biased where it claims not to be."""
        return abs(self.bias_z) > SEEN


@dataclass(frozen=True, repr=False)
class EstimatorCheck(Displayable):
    """Result of `vb.check_estimator`.

    Attributes:
        estimator: Name of the estimator.
        rows: One `OnPair` for each suitable pair.
        unsuitable: Name of an unsuitable pair → why it is unsuitable.
    """

    estimator: str
    rows: tuple[OnPair, ...]
    unsuitable: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether every claim that could be judged holds, on at least one pair, and every gradient could be captured."""
        judged = [row for row in self.rows if not math.isnan(row.bias_z)]
        return bool(self.rows) and all(row.captured == "yes" for row in self.rows) and not any(r.biased for r in judged)

    def verdict(self) -> str:
        """Which claims hold, which do not, and which could not be judged."""
        biased = [row for row in self.rows if row.biased]
        seen = [row for row in self.rows if not row.biased and row.resolution <= SMALL]
        known, drawn, told = ([row.pair for row in seen if row.judged == by] for by in ("yes", DRAWS, OWN))
        parts = []
        if biased:
            worst = max(biased, key=lambda row: abs(row.bias_z))
            parts.append(
                f"Biased in {worst.claimed}, where it claims not to be, on {listed([row.pair for row in biased])}: |z| up to {abs(worst.bias_z):.1f} on {worst.pair}."
            )
        if known:
            parts.append(f"No bias on {listed(known)}.")
        if drawn:
            parts.append(
                f"On {listed(drawn)} its gradient agrees with that of its bound, differentiated along the path of other draws."
            )
        if told:
            parts.append(
                f"On {listed(told)} its gradient agrees with differences of its own mean values; there is no table to check those values against."
            )
        if slow := [row for row in self.rows if row.captured != "yes"]:
            parts.append(f"Not captured on {listed([row.pair for row in slow])}: {slow[0].captured}")
        if blind := [row for row in self.rows if row not in biased and row not in seen]:
            why = dict.fromkeys(
                "too noisy, take more replicas" if row.judged in ("yes", DRAWS, OWN) else row.judged for row in blind
            )
            parts.append(f"Not judged on {listed([row.pair for row in blind])}: {'; '.join(why)}.")
        return " ".join(parts)

    def to_dataframe(self) -> pd.DataFrame:
        """The rows as columns."""
        return pd.DataFrame([dataclasses.asdict(row) for row in self.rows])

    def card(self) -> Card:
        """The verdict, and the pairs that it is based on."""
        kinds: dict[str, list[str]] = {"biased": [], "unbiased": [], "not judged": [], "not captured": []}
        for row in self.rows:
            kinds["biased" if row.biased else "unbiased" if row.resolution <= SMALL else "not judged"].append(row.pair)
            kinds["not captured"] += [row.pair] * (row.captured != "yes")
        kinds["unsuitable"] = list(self.unsuitable)
        rows = [(kind, first_few(names)) for kind, names in kinds.items() if names]
        return Card(f"Check of {self.estimator}: {'ok' if self.ok else 'not ok'}", tuple(rows))


@takes(pairs=Optional(Several(Choice(tuple(TRACTABLE), "tractable pair"))))
def check_estimator(
    estimator: Any,
    pairs: Sequence[str] | None = None,
    *,
    replicas: int = 20_000,
    seed: int | None = None,
    progress: bool = True,
) -> EstimatorCheck:
    """Tests an estimator on pairs with known answers: its output, whether it can be captured, and its bias relative to the exact gradient of its objective.

    The exact gradient is that of a sum over all values of the latents, `Objective.truth` of `vb.tabulate`, so an estimator of any objective that is a function of the
    densities can be tested. Estimators that weight several particles need a table of all tuples of particles; if that is too large, the gradient is compared with the derivative of the bound along
    the path of other draws: use two particles if possible. If an objective has neither, like that of `DAIS`, `LearnedDAIS` and `FIVO`, the gradient is compared with differences of the mean of
    the estimator's own values; an error in both at once is then not detected.

    Args:
        estimator: A `vb.Estimator`, its class or name.
        pairs: Names from `vb.pairs.TRACTABLE`; all of them if None.
        replicas: Number of gradient draws on each pair.
        seed: Seed for all random numbers.
        progress: Whether to show a progress bar.

    Raises:
        BadInput: There is no such estimator or pair.
        BadEstimator: The estimator breaks the contract; the message says how to fix it.

    Examples:
        >>> check = vb.check_estimator(MyEstimator())
        >>> assert check.ok, check.verdict()
    """
    method = resolve(estimator)
    if not isinstance(method, Estimator):
        raise BadInput(
            f"estimator={estimator!r} makes no claims that could be tested. Wanted: a vb.Estimator, its class or its name."
        )
    names = list(TRACTABLE) if pairs is None else list(pairs)
    seed, rows, unsuitable = rng.or_default(seed), [], {}
    with bar("check", len(names), show=progress, unit="pair") as advance:
        for number, name in enumerate(names, start=1):
            pair, batch = _away(name, seed), TRACTABLE[name].batch()
            try:
                check_suits(pair, batch, method)
            except Unsuitable as error:
                unsuitable[name] = str(error)
            else:
                rows.append(_on(name, pair, batch, method, replicas, seed))
            advance(number, name.__str__)
    return EstimatorCheck(name_of(method), tuple(rows), unsuitable)


def _away(name: str, seed: int) -> Pair:
    pair = TRACTABLE[name].pair()
    with rng.seeded(seed):
        return pair.load({key: value + AWAY * torch.randn_like(value) for key, value in pair.parameters.items()})


def _on(name: str, pair: Pair, batch: Batch, method: Estimator, replicas: int, seed: int) -> OnPair:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of slow gradients and heavy tails: both are said in the result
        many = Replicas(pair, method, batch)
        captured = many.why_slow or "yes"
        if captured != "yes":
            replicas = min(replicas, 1000)  # one by one
        z, resolution = math.nan, math.inf
        judged = "the pair has no parameters that its claims are about" if method.unbiased_in else "it claims nothing"
        if names := _claimed(pair, batch, method):
            judged, z, resolution = _judged(pair, batch, method, many, names, replicas, seed)
    claimed = ", ".join(sorted(method.unbiased_in)) or "nothing"
    return OnPair(name, captured, judged, claimed, z, resolution)


def _judged(
    pair: Pair, batch: Batch, method: Estimator, many: Replicas, names: tuple[str, ...], replicas: int, seed: int
) -> tuple[str, float, float]:
    """By what, or why not; bias in standard errors; and the smallest that would have been seen, in typical draws."""
    by_draws, why = Derivative.of(method), ""
    try:
        if method.objective.truth is not None:
            return "yes", *_against("tabulated", pair, batch, method, names, replicas, seed)
        if by_draws is None:
            found = against_own_values(many, pair, names, replicas, seed)
            return OWN, found.z, found.resolution
    except (Unsuitable, BadInput) as error:
        why = str(error).split(". ")[0]
    if by_draws is not None and suits(pair, batch, by_draws):
        return DRAWS, *_against(by_draws, pair, batch, method, names, replicas, seed)
    return why or "nothing is known of its bound without a path", math.nan, math.inf


def _against(
    oracle: Any, pair: Pair, batch: Batch, method: Estimator, names: tuple[str, ...], replicas: int, seed: int
) -> tuple[float, float]:
    table = compare(
        pair, batch.args[0], [method], at={"here": pair}, replicas=replicas, oracle=oracle, groups={"claimed": names}, seed=seed, progress=False,
    ).to_dataframe()  # fmt: skip
    found = table[table.group == "claimed"].iloc[0]
    typical = math.sqrt(found.mean_norm**2 + found.variance)
    return found.bias_z, found.bias_resolution / typical if typical else 0.0


def _claimed(pair: Pair, batch: Batch, method: Estimator) -> tuple[str, ...]:
    """The parameters in whose gradient it claims to be unbiased."""
    roles = parameter_groups(pair, batch)
    model = set(roles.get("model", ()))
    return tuple(name for name in pair.parameters if ("model" if name in model else "guide") in method.unbiased_in)
