"""Whether an estimator keeps what it claims: on small pairs whose every answer is known."""

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
    """What an estimator did on one pair.

    Attributes:
        pair: Its name.
        captured: Whether its gradients are one program, which is compiled; why not, if not.
        judged: "yes" by a truth; "its bound along the path", where a table would be too large: by the derivative of `Objective.of_draws` at other draws; "its own values", where nobody knows
            either: by differences of their mean; or why not at all.
        claimed: The parameters whose gradient it claims to be unbiased in: "model", "guide", "model, guide" or none.
        bias_z: Of these, in standard errors; NaN where nothing was judged.
        resolution: The smallest bias that would have been seen, in typical draws.
    """

    pair: str
    captured: str
    judged: str
    claimed: str
    bias_z: float
    resolution: float

    @property
    def biased(self) -> bool:
        """Whether it is not what it claims to be."""
        return abs(self.bias_z) > SEEN


@dataclass(frozen=True, repr=False)
class EstimatorCheck(Displayable):
    """Result of `vb.check_estimator`.

    Attributes:
        estimator: Its name.
        rows: One for each pair that it suits.
        unsuitable: Name of a pair that it does not suit → why.
    """

    estimator: str
    rows: tuple[OnPair, ...]
    unsuitable: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether every claim that could be judged holds, on one pair at least, and every program was captured."""
        judged = [row for row in self.rows if not math.isnan(row.bias_z)]
        return bool(self.rows) and all(row.captured == "yes" for row in self.rows) and not any(r.biased for r in judged)

    def verdict(self) -> str:
        """What holds, what does not, and what nobody could tell."""
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
                f"On {listed(drawn)} its gradient is that of its bound, differentiated along the path of other draws."
            )
        if told:
            parts.append(
                f"On {listed(told)} its gradient is that of the mean of its own values, by differences; whether these are what they are said to be, no table tells."
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
        """The verdict, and where it does not fit."""
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
    """Tests what an estimator claims on pairs with known answers: its output, whether it can be captured, and its bias against the exact gradient of its objective.

    The truth is a sum over all values of the latents, `Objective.truth` of `vb.tabulate`, differentiated; so an estimator of anything that can be written in
    densities can be judged. What weighs several particles needs a table of all tuples of them; where these are too many, the gradient is held against the derivative of its bound, along the path of
    other draws: take two particles where there is a choice. Where an objective has neither, as that of `DAIS`,
    `LearnedDAIS` and `FIVO`, the gradient is held against differences of the mean of the estimator's own values: an error in both at once is then not seen.

    Args:
        estimator: A `vb.Estimator`, its class or name.
        pairs: Names from `vb.pairs.TRACTABLE`; all of them if None.
        replicas: Draws of the gradient on each.
        seed: Of everything.
        progress: Show a bar.

    Raises:
        BadInput: No estimator of this kind, or no such pair.
        BadEstimator: It returns what no estimator may: a mend is named.

    Examples:
        >>> check = vb.check_estimator(MyEstimator())
        >>> assert check.ok, check.verdict()
    """
    method = resolve(estimator)
    if not isinstance(method, Estimator):
        raise BadInput(f"estimator={estimator!r} makes no claims. Wanted: a vb.Estimator, its class or name.")
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
        judged = "there are no parameters of which it claims anything" if method.unbiased_in else "it claims nothing"
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
