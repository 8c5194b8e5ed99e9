"""Tests the claims of an estimator on small pairs with known answers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from .. import rng
from ..arguments.choice import Choice
from ..arguments.kind import Optional, Several
from ..arguments.takes import takes
from ..data.dataset import Batch
from ..errors import BadInput, Unsuitable
from ..estimators import name_of, resolve
from ..estimators.base import Estimator
from ..estimators.contract import check_class
from ..estimators.suits import check_suits, suits
from ..pair.pair import Pair
from ..pair.parameter_groups import Groups, parameter_groups
from ..pairs import TRACTABLE
from ..progress import bar
from .bias import SEEN
from .compare import compare
from .derivative import Derivative
from .estimator_check import DRAWS, NOTHING, OWN, EstimatorCheck, OnPair
from .mean_value import mean_value
from .own_values import against_own_values
from .replicas import Replicas

AWAY = 0.2  # sd of random shifts of the parameters, so that no symmetry hides a bias


@takes(pairs=Optional(Several(Choice(tuple(TRACTABLE), "tractable pair"))))
def check_estimator(
    estimator: Any,
    pairs: Sequence[str] | None = None,
    *,
    replicas: int = 20_000,
    seed: int | None = None,
    progress: bool = True,
) -> EstimatorCheck:
    """Tests an estimator on pairs with known answers: its output, whether it can be captured, its mean value, and its bias relative to the exact gradient of its objective.

    The exact gradient is that of a sum over all values of the latents, `Objective.truth` of `vb.tabulate`, so an estimator of any objective that is a function of the
    densities can be tested. Estimators that weight several particles need a table of all tuples of particles; if that is too large, the gradient is compared with the derivative of the bound along
    the path of other draws: use two particles if possible. If an objective has neither, like that of `DAIS`, `LearnedDAIS` and `FIVO`, the gradient is compared with differences of the mean of
    the estimator's own values; an error in both at once is then not detected.

    The value must be finite, and on average what `bound` says: the ELBO, the objective if that has this name, or the mean of `bound_of` over K draws. If the exact value of that is not known,
    the value is not judged. The result's `ok` is None if no claim could be judged at all; its verdict says why.

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
    check_class(method)  # its claims may have been set after construction
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
                rows.extend(_on(name, pair, batch, method, replicas, seed))
            advance(number, name.__str__)
    return EstimatorCheck(name_of(method), tuple(rows), unsuitable)


def _away(name: str, seed: int) -> Pair:
    pair = TRACTABLE[name].pair()
    with rng.seeded(seed):
        return pair.load({key: value + AWAY * torch.randn_like(value) for key, value in pair.parameters.items()})


def _on(name: str, pair: Pair, batch: Batch, method: Estimator, replicas: int, seed: int) -> list[OnPair]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about slow gradients and heavy tails, which the result reports
        many = Replicas(pair, method, batch)
        captured = many.why_slow or "yes"
        if captured != "yes":
            replicas = min(replicas, 1000)  # one by one
        value = mean_value(name, pair, batch, method, many, replicas, seed)
        if not method.unbiased_in:
            return [OnPair(name, NOTHING, captured, "it claims nothing"), value]
        parts = _claimed(pair, batch, method)
        if not parts:
            claimed = ", ".join(sorted(method.unbiased_in))
            return [OnPair(name, claimed, captured, "the pair has no parameters that its claims are about"), value]
        judged, found = _judged(pair, batch, method, many, parts, replicas, seed)
    if not found:
        return [*(OnPair(name, part, captured, judged) for part in parts), value]
    return [*(OnPair(name, part, captured, judged, *numbers) for part, numbers in found.items()), value]


Found = dict[str, tuple[float, float, str]]
"""Part → bias in standard errors; the smallest detectable bias, relative to typical draws; if biased, the parameter with the largest bias."""


def _judged(
    pair: Pair, batch: Batch, method: Estimator, many: Replicas, parts: Groups, replicas: int, seed: int
) -> tuple[str, Found]:
    """How the gradient was judged, or why it was not, and the result."""
    by_draws, why = Derivative.of(method), ""
    try:
        if method.objective.truth is not None:
            return "yes", _by_oracle("tabulated", pair, batch, method, parts, replicas, seed)
        if by_draws is None:
            return OWN, _by_own_values(pair, many, parts, replicas, seed)
    except (Unsuitable, BadInput) as error:
        why = str(error).split(". ")[0]
    if by_draws is not None and suits(pair, batch, by_draws):
        return DRAWS, _by_oracle(by_draws, pair, batch, method, parts, replicas, seed)
    return why or "nothing is known of its bound without a path", {}


def _by_own_values(pair: Pair, many: Replicas, parts: Groups, replicas: int, seed: int) -> Found:
    found: Found = {}
    for part, names in parts.items():
        whole, worst = against_own_values(many, pair, names, replicas, seed)
        found[part] = whole.z, whole.resolution, worst if abs(whole.z) > SEEN else ""
    return found


def _by_oracle(
    oracle: Any, pair: Pair, batch: Batch, method: Estimator, parts: Groups, replicas: int, seed: int
) -> Found:
    groups = parts | {f"{part} {name}": (name,) for part, names in parts.items() for name in names}
    table = compare(
        pair, batch.args[0], [method], at={"here": pair}, replicas=replicas, oracle=oracle, groups=groups, seed=seed, progress=False,
    ).to_dataframe().set_index("group")  # fmt: skip
    found: Found = {}
    for part, names in parts.items():
        whole = table.loc[part]
        typical = math.sqrt(whole.mean_norm**2 + whole.variance)
        alone = {name: abs(table.bias_z[f"{part} {name}"]) for name in names}
        worst = max(alone, key=alone.__getitem__) if abs(whole.bias_z) > SEEN else ""
        found[part] = float(whole.bias_z), float(whole.bias_resolution / typical) if typical else 0.0, worst
    return found


def _claimed(pair: Pair, batch: Batch, method: Estimator) -> Groups:
    """Part → the parameters in whose gradient it claims to be unbiased; those parts that have any."""
    model = set(parameter_groups(pair, batch).get("model", ()))
    parts: Groups = {
        "guide": tuple(name for name in pair.parameters if name not in model),
        "model": tuple(name for name in pair.parameters if name in model),
    }
    return {part: names for part, names in parts.items() if names and part in method.unbiased_in}
