"""What an estimator follows, apart from how it does: the function itself, which way is up, and its exact value where it can be had."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ..drawing.base_noise import NoiseKind
from ..exact.table import Table

PROBE = 3.0  # nats over which the log-weights of a probe run: any spread that tells bounds apart
BoundOf = Callable[[Tensor], Tensor]
ROUNDING = 1e-6  # nats by which two bounds may differ that are one: single precision loses a tenth of that


@dataclass(frozen=True, eq=False)
class Probed:
    """A function of K log-weights, equal to another one that gives the same where they are spread out; looked at when somebody compares.

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
        return 0  # what rounding may have made of one number has one hash


@dataclass(frozen=True)
class Objective:
    """A function of model and guide that training raises or lowers.

    Estimators compete where their objectives are equal: name, direction and `settings`; each is judged by the truth of its own.

    Attributes:
        name: As tables and verdicts have it, with what tells it apart from its like: "ELBO", "IWAE bound of 5 particles".
        truth: Its exact value: a `Table` of log p and log q at all values of the latents in, (*local) nats out, differentiable in the parameters that the table is
            live in. None where nobody knows one: its estimators are then measured, and nothing is said of their bias.
        ascend: Whether training raises it. One that is lowered, such as an upper bound, is negated wherever values or gradients come out of an estimator, so that
            losses, histories and the laboratory know one direction alone.
        settings: Whatever else tells two of one name apart.
        of_draws: What model and guide raise, each a function of the log-weights of the estimator's draws, (K, *local) in and (*local) out, of which it is the mean: by its derivative along
            the path the laboratory judges an estimator where there is no table. None where it is no such mean.
        infinite_from: k̂ of the weights from which on it is infinite, 1/n for a mean of wⁿ.
    """

    name: str
    truth: Callable[[Table], Tensor] | None = field(default=None, compare=False, repr=False)
    ascend: bool = True
    settings: tuple[object, ...] = ()
    of_draws: tuple[BoundOf, BoundOf] | None = field(default=None, compare=False, repr=False)
    infinite_from: float = field(default=math.inf, compare=False, repr=False)

    @property
    def sign(self) -> float:
        """What makes it one to raise."""
        return 1.0 if self.ascend else -1.0


ELBO = Objective("ELBO", Table.elbo)


def of_particles(name: str, bound_of: Callable[[Tensor], Tensor], num_particles: int, noise: NoiseKind) -> Objective:
    """The mean of a function of the log-weights of K draws; two are one where they give the same at log-weights that are spread out.

    Args:
        name: Of the bound: "IWAE".
        bound_of: (K, *local) log-weights → (*local) nats.
        num_particles: K.
        noise: Of which the draws are made: particles that hang together have another mean, which is not tabulated.
    """
    alone = noise == "iid"
    return Objective(
        f"{name} bound of {num_particles} particles" + ("" if alone else f", {noise}"),
        (lambda table: table.expected(bound_of, num_particles)) if alone else None,
        settings=(num_particles, noise, Probed(bound_of, num_particles)),
        of_draws=(bound_of, bound_of),
    )


def apart(name: str, model: Callable[[Table], Tensor], guide: Callable[[Table], Tensor]) -> Objective:
    """One thing that the model raises and another that the guide raises; the value is the model's.

    Args:
        name: Of the whole.
        model, guide: Table → (*local) nats.
    """

    def truth(table: Table) -> Tensor:
        of_guide = guide(replace(table, log_p=table.log_p.detach()))
        return model(replace(table, log_q=table.log_q.detach())) + (of_guide - of_guide.detach())

    return Objective(name, truth)
