"""Result of testing the claims of an estimator."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ..summaries.card import Card, Displayable, first_few
from ..summaries.listed import listed
from .bias import SEEN

SMALL = 0.5  # relative to a typical draw: a bias of this size must be detectable
OWN = "its own values"
DRAWS = "its bound along the path"
VALUE = "value"
NOTHING = "gradient"  # the name of the part for an estimator that claims to be unbiased in neither


@dataclass(frozen=True)
class OnPair:
    """One claim of an estimator, tested on one pair.

    Attributes:
        pair: Name of the pair.
        part: "model" or "guide": the gradient with respect to its parameters; "value": the mean value; "gradient" if the estimator claims nothing about its gradient.
        captured: "yes" if its gradients can be captured and compiled; otherwise the reason why not.
        judged: "yes" if compared with the exact gradient or value; "its bound along the path" if a table would be too large, and a gradient was compared with the derivative of `Objective.of_draws` at other draws; "its own values" if neither is known, and it was compared with differences of the mean value; otherwise the reason why not judged.
        bias_z: Bias in standard errors; infinite for a value that is not finite, NaN if not judged.
        resolution: The smallest detectable bias, relative to the size of typical draws.
        worst: If biased, the parameter with the largest bias in standard errors, if known; for a value, what it is and what it should be.
    """

    pair: str
    part: str
    captured: str
    judged: str
    bias_z: float = math.nan
    resolution: float = math.inf
    worst: str = ""

    @property
    def biased(self) -> bool:
        """Whether the estimator is biased where it claims not to be."""
        return abs(self.bias_z) > SEEN

    @property
    def holds(self) -> bool:
        """Whether no bias was found, and one of half of a typical draw would have been."""
        return not self.biased and self.resolution <= SMALL

    @property
    def why_not(self) -> str:
        """Why it was not judged."""
        return "too noisy, take more replicas" if self.judged in ("yes", DRAWS, OWN) else self.judged


@dataclass(frozen=True, repr=False)
class EstimatorCheck(Displayable):
    """Result of `vb.check_estimator`.

    Attributes:
        estimator: Name of the estimator.
        rows: For each suitable pair one `OnPair` for each part of the pair in which the estimator claims to be unbiased, and one for its value.
        unsuitable: Name of an unsuitable pair → why it is unsuitable.
    """

    estimator: str
    rows: tuple[OnPair, ...]
    unsuitable: Mapping[str, str]

    @property
    def ok(self) -> bool | None:
        """Whether every claim that could be judged holds, and every gradient could be captured; None if no claim could be judged.

        The value alone counts only if the estimator claims nothing about its gradient.
        A single claim is called biased beyond four standard errors, a right one with a probability of 6e-5: one of the 33 of all pairs in 0.2 % of checks. Whether a right one is judged does not depend
        on chance, but on the number of replicas: see `OnPair.resolution`.
        """
        if any(row.captured != "yes" or row.biased for row in self.rows):
            return False
        gradients = [row for row in self.rows if row.part not in (VALUE, NOTHING)]
        return True if any(row.holds for row in gradients or self.rows) else None

    def verdict(self) -> str:
        """Which claims hold, which do not, and which could not be judged."""
        gradients = [row for row in self.rows if row.part != VALUE]
        values = [row for row in self.rows if row.part == VALUE]
        parts = []
        for part in dict.fromkeys(row.part for row in gradients):
            if biased := [row for row in gradients if row.biased and row.part == part]:
                worst = max(biased, key=lambda row: abs(row.bias_z))
                what = f"for {worst.worst!r} " if worst.worst else ""
                parts.append(
                    f"Biased in {part}, where it claims not to be, on {_pairs(biased)}: |z| up to {abs(worst.bias_z):.1f}, {what}on {worst.pair}."
                )
        if wrong := [row for row in values if row.biased]:
            worst = max(wrong, key=lambda row: abs(row.bias_z))
            parts.append(f"Its value is wrong on {_pairs(wrong)}: on {worst.pair} it is {worst.worst}.")
        known, drawn, told = (
            [row for row in gradients if row.holds and row.judged == by] for by in ("yes", DRAWS, OWN)
        )
        parts += [f"No bias{part} on {listed(pairs)}." for part, pairs in self._by_part(known)]
        parts += [
            f"On {listed(pairs)} its gradient{part} agrees with that of its bound, differentiated along the path of other draws."
            for part, pairs in self._by_part(drawn)
        ]
        parts += [
            f"On {listed(pairs)} its gradient{part} agrees with differences of its own mean values; there is no table to check those values against."
            for part, pairs in self._by_part(told)
        ]
        if right := [row for row in values if row.holds]:
            there = _pairs(right) == (_pairs(known) if known else "")
            parts.append(f"Its mean value is right {'there' if there else 'on ' + _pairs(right)}.")
        if slow := [row for row in self.rows if row.captured != "yes"]:
            parts.append(f"Not captured on {_pairs(slow)}: {slow[0].captured}")
        blind = {"Gradient": _not_judged(gradients), "Value": _not_judged(values)}
        if blind["Gradient"] == blind["Value"]:
            blind = {"Gradient and value": blind["Value"]}
        parts += [f"{what} not judged on {why}" for what, why in blind.items() if why]
        return " ".join(parts)

    def _by_part(self, rows: Iterable[OnPair]) -> Iterable[tuple[str, list[str]]]:
        """The names of pairs by part, in words; "" for pairs of which all claimed parts are among the rows."""
        of_pair: dict[str, list[str]] = {}
        for row in rows:
            of_pair.setdefault(row.pair, []).append(row.part)
        found: dict[str, list[str]] = {}
        for pair, parts in of_pair.items():
            whole = len(parts) == sum(row.pair == pair and row.part != VALUE for row in self.rows)
            found.setdefault("" if whole else f" in {listed(parts)}", []).append(pair)
        return found.items()

    def to_dataframe(self) -> pd.DataFrame:
        """The rows as columns."""
        return pd.DataFrame([dataclasses.asdict(row) for row in self.rows])

    def card(self) -> Card:
        """The verdict, and the pairs that it is based on."""
        kinds: dict[str, list[str]] = {
            "biased": [], "wrong value": [], "unbiased": [], "right value": [], "not judged": [], "value not judged": [], "not captured": [],
        }  # fmt: skip
        for row in self.rows:
            found, lost, blind = (
                ("right value", "wrong value", "value not judged")
                if row.part == VALUE
                else ("unbiased", "biased", "not judged")
            )
            kinds[lost if row.biased else found if row.holds else blind].append(row.pair)
            kinds["not captured"] += [row.pair] * (row.captured != "yes")
        kinds["unsuitable"] = list(self.unsuitable)
        rows = [(kind, first_few(dict.fromkeys(names))) for kind, names in kinds.items() if names]
        return Card(
            f"Check of {self.estimator}: {'not judged' if self.ok is None else 'ok' if self.ok else 'not ok'}",
            tuple(rows),
        )


def _pairs(rows: Iterable[OnPair]) -> str:
    return listed(list(dict.fromkeys(row.pair for row in rows)))


def _not_judged(rows: Sequence[OnPair]) -> str:
    """The pairs that were not judged, and why."""
    blind = [row for row in rows if not (row.biased or row.holds)]
    return f"{_pairs(blind)}: {'; '.join(dict.fromkeys(row.why_not for row in blind))}." if blind else ""
