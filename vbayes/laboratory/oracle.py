"""What an estimator's bias is judged by: truth, or draws of another estimator of the same bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import (
    ELBO,
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    JitTraceGraph_ELBO,
    JitTraceMeanField_ELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from torch import Tensor

from ..data.dataset import Batch
from ..errors import BadInput, Unsuitable
from ..estimators import RLOO, VIMCO, DReG, Enumerated, Pathwise, name_of, resolve
from ..estimators.base import Estimator
from ..estimators.suits import of_elbo, suits
from ..inference.tabulate import tabulate
from ..pair.pair import Pair

PYROS: tuple[type[ELBO], ...] = (Trace_ELBO, TraceMeanField_ELBO, TraceGraph_ELBO, TraceEnum_ELBO)
PYROS += (JitTrace_ELBO, JitTraceMeanField_ELBO, JitTraceGraph_ELBO, JitTraceEnum_ELBO)
"""Pyro's own whose gradient is the ELBO's; not so `RenyiELBO`, `TraceTailAdaptive_ELBO` and others of that base class."""

PROBE = 3.0  # nats over which the log-weights of a probe run: any spread that tells bounds apart


ROUNDING = 1e-6  # nats by which two bounds may differ that are one: single precision loses a tenth of that


class _About(float):
    """A number that equals those that rounding may have made of it; all have one hash, so it can be part of a key."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(self - other) <= ROUNDING

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return 0


@dataclass(frozen=True)
class Known:
    """A bound that is known, as a function whose gradient is the truth.

    Attributes:
        name: In tables.
        bound: Called inside the scope of a pair; () nats, live in its parameters.
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


def target(method: ELBO) -> tuple[Any, ...]:
    """What the gradient of an estimator is meant to be that of: equal for two estimators of one bound.

    A class of somebody else's is known to be after the ELBO if it is one of Pyro's that are, or has `bound = "ELBO"`. Of any other
    nothing is known but that two with the same settings are after the same.
    """
    if is_elbo(method):
        return ("ELBO",)
    if not isinstance(method, Estimator):
        return (type(method).__name__, getattr(method, "num_particles", 1), repr(sorted(_settings(method).items())))
    probe = method.bound_of(torch.linspace(-PROBE, 0.0, method.num_particles, dtype=torch.float64, device="cpu"))
    # The mean over particles that hang together is another one.
    return method.bound, method.num_particles, _About(probe), method.noise


def is_elbo(method: ELBO) -> bool:
    """Whether its gradient is meant to be that of the ELBO."""
    return type(method) in PYROS or getattr(method, "bound", None) == "ELBO"


def labels(methods: Mapping[str, ELBO]) -> dict[str, str]:
    """Name of an estimator → its target in words, the same for the same target and for no other."""
    found: dict[tuple[Any, ...], str] = {}
    for name, method in methods.items():
        if target(method) in found:
            continue
        words = "ELBO" if is_elbo(method) else _words(method)
        found[target(method)] = f"{words} as {name} has it" if words in found.values() else words
    return {name: found[target(method)] for name, method in methods.items()}


def _words(method: ELBO) -> str:
    particles = f"of {getattr(method, 'num_particles', 1)} particles"
    if not isinstance(method, Estimator):
        return f"{type(method).__name__} {particles}"
    return f"{method.bound} bound {particles}" + ("" if method.noise == "iid" else f", {method.noise}")


def _settings(method: ELBO) -> dict[str, Any]:
    """Numbers and words among its attributes, Pyro's settings of the traversal left out."""
    return {
        k: v
        for k, v in vars(method).items()
        if isinstance(v, (int, float, str)) and k not in vars(Trace_ELBO()) and not k.startswith("_")
    }


def judge_of(method: ELBO, pair: Pair, batch: Batch, oracle: Any, *, whole: bool) -> Judge | None:
    """The best that there is for an estimator's bound, or None.

    Args:
        method: Under test.
        pair: Initialised.
        batch: That the gradients are of.
        oracle: "auto", "tabulated", or an estimator for those of its own bound.
        whole: Whether the batch is all of the data.

    Returns:
        The pair's exact ELBO; or the bound tabulated, if asked for; or an unbiased estimator of the bound, which may be the one under
        test itself: that says where the gradient points, and nothing of bias. None for a class of which nobody knows the bound.

    Raises:
        Unsuitable: Tabulation was asked for, of a pair or batch that is not for it.
    """
    if not (is_elbo(method) or isinstance(method, Estimator)):
        return None
    bound = target(method)
    if oracle == "tabulated":
        known = _tabulated(method, batch)
        known.gradient(pair)  # what can't be tabulated says so now
        return known
    if oracle != "auto" and target(resolve(oracle)) == bound:
        return resolve(oracle)
    if bound[0] == "ELBO":
        exact = pair.exact
        if exact is not None and whole:
            return Known("exact ELBO", lambda here: exact.elbo(*batch.args))
        usual = of_elbo(pair, batch)
        candidates: list[ELBO] = [usual if isinstance(usual, Enumerated) or suits(pair, batch, Pathwise()) else RLOO(8)]
    elif bound[0] == "IWAE" and bound[-1] == "iid":
        candidates = [DReG(bound[1])] + ([VIMCO(bound[1])] if bound[1] >= VIMCO.min_particles else [])
    else:
        candidates = []
    if isinstance(method, Estimator) and method.unbiased_in == {"model", "guide"}:
        candidates.append(method)
    return next((candidate for candidate in candidates if suits(pair, batch, candidate)), None)


def _tabulated(method: ELBO, batch: Batch) -> Known:
    if not isinstance(method, Estimator) or is_elbo(method):
        return Known("tabulated", lambda here: tabulate(here, batch).elbo().sum())
    if method.noise != "iid":
        raise Unsuitable(
            f"The mean of the {method.bound} bound over {method.noise} particles can't be tabulated. Use oracle='auto' for {name_of(method)}."
        )
    return Known("tabulated", lambda here: tabulate(here, batch).expected(method.bound_of, method.num_particles).sum())


def said(judge: Judge | None, replicas: int) -> str:
    """A judge in words."""
    if judge is None:
        return "none"
    return judge.name if isinstance(judge, Known) else f"{name_of(judge)}, {replicas} replicas"


def check_oracle(oracle: Any) -> None:
    """Raises `BadInput` for what is no oracle."""
    if oracle in ("auto", "tabulated"):
        return
    method, wanted = resolve(oracle), "Wanted: 'auto', 'tabulated', or an unbiased estimator such as vb.AnalyticKL()."
    if isinstance(method, Estimator) and method.unbiased_in != {"model", "guide"}:
        raise BadInput(f"oracle={name_of(method)!r} is biased itself. {wanted}")
    if not isinstance(method, Estimator) and not is_elbo(method):
        raise BadInput(
            f"oracle={name_of(method)!r} is of a class that isn't known to estimate the ELBO. {wanted} A class of your own says so by "
            "`bound = 'ELBO'`."
        )
