"""The objective of an estimator: its name, direction, and exact value if available."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ..drawing.base_noise import NoiseKind
from ..exact.table import Table

PROBE = 3.0  # range of a probe's log-weights in nats; any spread that distinguishes bounds
BoundOf = Callable[[Tensor], Tensor]
ROUNDING = 1e-6  # nats within which two bounds count as equal: single precision loses a tenth of that


@dataclass(frozen=True, eq=False)
class Probed:
    """A function of K log-weights that equals another if both give the same value at some probe log-weights, which is evaluated when two are compared.

    Attributes:
        bound_of: (K, *local) log-weights → (*local) nats.
        num_particles: K.
    """

    bound_of: Callable[[Tensor], Tensor]
    num_particles: int

    @cached_property
    def value(self) -> float:
        spread = torch.linspace(-PROBE, 0.0, self.num_particles, dtype=torch.float64, device="cpu")
        return float(self.bound_of(spread))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Probed) and abs(self.value - other.value) <= ROUNDING

    def __hash__(self) -> int:
        return 0  # values that differ by rounding only must have the same hash


@dataclass(frozen=True)
class Objective:
    """A function of model and guide that training maximises or minimises.

    Estimators are compared if their objectives are equal in name, direction and `settings`; each is judged by the exact value of its own objective.

    Attributes:
        name: Name in tables and verdicts, including distinguishing settings: "ELBO", "IWAE bound of 5 particles".
        truth: Function for the exact value, from a `Table` of log p and log q at all values of the latents to (*local) nats, differentiable in the parameters of
            the table. None if unknown: its estimators are then measured, but their bias is not judged.
        ascend: Whether training maximises it. Values and gradients of an objective that is minimised, such as an upper bound, are negated in the output of estimators, so that
            losses, histories and the laboratory have only one direction.
        settings: Further settings that distinguish objectives with the same name.
        of_draws: The functions that model and guide maximise, each of the log-weights of the estimator's draws, (K, *local) in and (*local) out, whose means are the objective: without
            a table, the laboratory judges an estimator by their derivatives along the path. None if the objective is not such a mean.
        infinite_from: The k̂ of the weights from which on the objective is infinite: 1/n for a mean of wⁿ.
    """

    name: str
    truth: Callable[[Table], Tensor] | None = field(default=None, compare=False, repr=False)
    ascend: bool = True
    settings: tuple[object, ...] = ()
    of_draws: tuple[BoundOf, BoundOf] | None = field(default=None, compare=False, repr=False)
    infinite_from: float = field(default=math.inf, compare=False, repr=False)

    @property
    def sign(self) -> float:
        """1 if it is maximised, −1 if it is minimised."""
        return 1.0 if self.ascend else -1.0


ELBO = Objective("ELBO", Table.elbo)


def of_particles(name: str, bound_of: Callable[[Tensor], Tensor], num_particles: int, noise: NoiseKind) -> Objective:
    """The mean of a function of the log-weights of K draws; two are equal if they give the same values at probe log-weights.

    Args:
        name: Name of the bound: "IWAE".
        bound_of: (K, *local) log-weights → (*local) nats.
        num_particles: K.
        noise: How the base noise of the draws is related: dependent particles have a different mean, which is not tabulated.
    """
    alone = noise == "iid"
    return Objective(
        f"{name} bound of {num_particles} particles" + ("" if alone else f", {noise}"),
        (lambda table: table.expected(bound_of, num_particles)) if alone else None,
        settings=(num_particles, noise, Probed(bound_of, num_particles)),
        of_draws=(bound_of, bound_of),
    )


def apart(name: str, model: Callable[[Table], Tensor], guide: Callable[[Table], Tensor]) -> Objective:
    """An objective whose model and guide maximise different functions; its value is the model's.

    Args:
        name: Name of the objective.
        model, guide: Table → (*local) nats.
    """

    def truth(table: Table) -> Tensor:
        of_guide = guide(replace(table, log_p=table.log_p.detach()))
        return model(replace(table, log_q=table.log_q.detach())) + (of_guide - of_guide.detach())

    return Objective(name, truth)
