"""References for the bias of an estimator: the exact gradient, or another estimator of the same bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor

from ..data.dataset import Batch
from ..errors import BadInput, Unsuitable
from ..estimators import RLOO, VIMCO, DReG, Enumerated, Pathwise, name_of, resolve
from ..estimators.base import Estimator
from ..estimators.followed import PYROS
from ..estimators.objective import ELBO as ELBO_OBJECTIVE
from ..estimators.objective import Objective
from ..estimators.suits import of_elbo, suits
from ..inference.tabulate import tabulate
from ..pair.pair import Pair
from .derivative import Derivative


@dataclass(frozen=True)
class Known:
    """A bound with a known value, as a function whose gradient is exact.

    Attributes:
        name: Name in tables.
        bound: Called inside the scope of a pair; returns () nats, differentiable in its parameters.
    """

    name: str
    bound: Callable[[Pair], Tensor]

    def gradient(self, pair: Pair) -> Tensor:
        """(P,) in double precision, on the CPU."""
        with pair.scope():
            leaves = [pair.leaves[name] for name in pair.parameters]
            grads = torch.autograd.grad(self.bound(pair), leaves, materialize_grads=True)
        return torch.cat([g.reshape(-1) for g in grads]).double().cpu()


Judge = Known | ELBO
FEW = 20_000  # maximum number of nodes if a table was not requested


def target(method: ELBO) -> Objective | tuple[Any, ...]:
    """The objective whose gradient an estimator estimates; equal for two estimators of the same bound.

    A class that is not from vbayes is known to estimate the ELBO if it is one of Pyro's that do, or has `bound = "ELBO"`. For any other
    class, only two objects with the same settings are known to have the same objective.
    """
    if is_elbo(method):
        return ELBO_OBJECTIVE
    if isinstance(method, Estimator):
        return method.objective
    return (type(method).__name__, getattr(method, "num_particles", 1), repr(sorted(_settings(method).items())))


def is_elbo(method: ELBO) -> bool:
    """Whether it estimates the gradient of the ELBO."""
    if isinstance(method, Estimator):
        return method.objective == ELBO_OBJECTIVE
    return type(method) in PYROS or getattr(method, "bound", None) == "ELBO"


def labels(methods: Mapping[str, ELBO]) -> dict[str, str]:
    """Name of an estimator → its target in words, the same for the same target and for no other."""
    found: dict[Any, str] = {}
    for name, method in methods.items():
        if target(method) in found:
            continue
        words = "ELBO" if is_elbo(method) else _words(method)
        found[target(method)] = f"{words} (as in {name})" if words in found.values() else words
    return {name: found[target(method)] for name, method in methods.items()}


def _words(method: ELBO) -> str:
    if isinstance(method, Estimator):
        return method.objective.name
    return f"{type(method).__name__} of {getattr(method, 'num_particles', 1)} particles"


def _settings(method: ELBO) -> dict[str, Any]:
    """The numbers and strings among its attributes, without Pyro's settings for traversal."""
    return {
        k: v
        for k, v in vars(method).items()
        if isinstance(v, (int, float, str)) and k not in vars(Trace_ELBO()) and not k.startswith("_")
    }


def judge_of(method: ELBO, pair: Pair, batch: Batch, oracle: Any, *, whole: bool) -> Judge | None:
    """The best available reference for an estimator's bound, or None.

    Args:
        method: The estimator under test.
        pair: An initialised pair.
        batch: The batch of the gradients.
        oracle: "auto", "tabulated", or an estimator as the reference for estimators of its own bound.
        whole: Whether the batch is the whole data set.

    Returns:
        The pair's exact ELBO; or the tabulated objective, if requested; or an unbiased estimator of it: another one, or the derivative of the bound of its draws, or the one under test itself,
        which gives the direction of the gradient but no information about bias; or a small table, if there is no such estimator. None for a class with an unknown objective, and for an
        objective without an exact value.

    Raises:
        Unsuitable: Tabulation was requested, but is not possible for this pair or batch.
    """
    if not (is_elbo(method) or isinstance(method, Estimator)):
        return None
    goal = target(method)
    if oracle == "tabulated":
        return _tabulated(method, pair, batch)  # so that errors in tabulation are raised now
    if oracle != "auto" and target(resolve(oracle)) == goal:
        return resolve(oracle)
    if goal == ELBO_OBJECTIVE:
        exact = pair.exact
        if exact is not None and whole:
            return Known("exact ELBO", lambda here: exact.elbo(*batch.args))
        usual = of_elbo(pair, batch)
        candidates: list[ELBO] = [usual if isinstance(usual, Enumerated) or suits(pair, batch, Pathwise()) else RLOO(8)]
    else:
        number = getattr(method, "num_particles", 1)
        several: list[ELBO] = [DReG(number), *([VIMCO(number)] if number >= VIMCO.min_particles else [])]
        candidates = [quiet for quiet in several if target(quiet) == goal]
    if isinstance(method, Estimator) and method.unbiased_in == {"model", "guide"}:
        by_draws = Derivative.of(method)
        candidates += [method] if by_draws is None else [by_draws, method]
    if found := next((candidate for candidate in candidates if suits(pair, batch, candidate)), None):
        return found
    with suppress(Unsuitable, BadInput):
        return _tabulated(method, pair, batch, nodes=FEW)
    return None


def _tabulated(method: ELBO, pair: Pair, batch: Batch, **limits: int) -> Known:
    goal = ELBO_OBJECTIVE if is_elbo(method) else method.objective  # type: ignore[attr-defined]
    truth = goal.truth
    if truth is None:
        raise Unsuitable(f"{goal.name} can't be tabulated. Use oracle='auto' for {name_of(method)}.")
    known = Known("tabulated", lambda here: goal.sign * truth(tabulate(here, batch, **limits)).sum())
    known.gradient(pair)
    return known


def said(judge: Judge | None, replicas: int) -> str:
    """The description of a reference."""
    if judge is None:
        return "none"
    return judge.name if isinstance(judge, Known) else f"{name_of(judge)}, {replicas} replicas"


def check_oracle(oracle: Any) -> None:
    """Raises `BadInput` for anything that can't be an oracle."""
    if isinstance(oracle, str) and oracle in ("auto", "tabulated"):
        return
    method, wanted = resolve(oracle), "Wanted: 'auto', 'tabulated', or an unbiased estimator such as vb.AnalyticKL()."
    if isinstance(method, Estimator) and method.unbiased_in != {"model", "guide"}:
        raise BadInput(f"oracle={name_of(method)!r} is biased itself. {wanted}")
    if not isinstance(method, Estimator) and not is_elbo(method):
        raise BadInput(
            f"oracle={name_of(method)!r} is of a class that is not known to estimate the ELBO. {wanted} For your own class, declare it with "
            "`bound = 'ELBO'`."
        )
