"""Maximum likelihood by expectation maximisation: the Baum–Welch algorithm, and a variant with a factored q instead of the posterior."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ... import rng
from ...arguments.function import FUNCTION
from ...arguments.names import SOME
from ...arguments.takes import takes
from ...errors import BadInput
from . import factored, messages
from .emissions import Emission, shares
from .messages import inside
from .model import STATES, HiddenMarkov
from .scan import LOG_ZERO
from .sequences import filled
from .starts import random_start


class Expected(NamedTuple):
    """Result of an E-step.

    Attributes:
        bound: () log-evidence or ELBO in nats, which the M-step increases.
        states: (N, T, S) q(z_t), 0 past a row's end.
        moves: (S, S) expected number of transitions.
        log_q: (N, T, S) initial value for the next E-step; None if it needs none.
    """

    bound: Tensor
    states: Tensor
    moves: Tensor
    log_q: Tensor | None = None


Expectation = Callable[[tuple[Tensor, Tensor, Tensor], Tensor | None, "Expected | None"], Expected]


def by_posterior(given: tuple[Tensor, Tensor, Tensor], lengths: Tensor | None, before: Expected | None) -> Expected:
    """The E-step of Baum & Welch, under the exact posterior."""
    initial, transition, emission = given
    ahead, behind = messages.forward(*given, lengths), messages.backward(*given, lengths)
    within = inside(emission, lengths)
    states = (ahead + behind).softmax(-1) * within[..., None]
    moves = ahead[:, :-1, :, None] + transition + (emission + behind)[:, 1:, None, :]
    moves = moves.flatten(2).softmax(-1).view_as(moves) * within[:, 1:, None, None]
    return Expected(ahead[:, -1].logsumexp(-1).sum(), states, moves.sum((0, 1)))


def by_factored(given: tuple[Tensor, Tensor, Tensor], lengths: Tensor | None, before: Expected | None) -> Expected:
    """E-step with the best factored q, started from the previous one: variational EM."""
    initial, transition, emission = (part.clamp(min=LOG_ZERO) for part in given)
    start = None if before is None else before.log_q
    log_q = factored.best_factored(initial, transition, emission, lengths, start=start, tolerance=1e-8)
    states = log_q.exp() * inside(emission, lengths)[..., None]
    moves = torch.einsum("nti,ntj->ij", states[:, :-1], states[:, 1:])
    return Expected(factored.elbo(initial, transition, emission, log_q, lengths).sum(), states, moves, log_q)


@dataclass(frozen=True)
class Learnt:
    """Result of `baum_welch`: a model whose parameters are a local maximum of the evidence, or of a bound on it.

    Attributes:
        model: The model with the learnt parameters.
        bound: The evidence or bound of all data in nats, at the start and after each iteration; it never decreases.
        converged: Whether the last iteration gained less than the tolerance.
        restarts: The final value for every start, in nats, including this one.
    """

    model: HiddenMarkov
    bound: tuple[float, ...]
    converged: bool
    restarts: tuple[float, ...] = ()

    @property
    def log_evidence(self) -> float:
        """The final evidence in nats; with the factored E-step, the final ELBO."""
        return self.bound[-1]


@takes(start=STATES, iterations=SOME, expectation=FUNCTION)
def baum_welch(
    x: Tensor,
    start: HiddenMarkov | int,
    *,
    lengths: Tensor | None = None,
    observed: Tensor | None = None,
    expectation: Expectation = by_posterior,
    tolerance: float = 1e-6,
    iterations: int = 2000,
    restarts: int = 10,
    seed: int | None = None,
) -> Learnt:
    """Learns initial, transition and emission probabilities by expectation maximisation (Baum–Welch), in double precision.

    Args:
        x: (N, T) or (N, T, D) real numbers, or (N, T) integers.
        start: A model to start from; or the number of states S, in which case the best of several random starts is returned. Emissions are Gaussian
            for real numbers and categorical for integers.
        lengths: (N,) number of steps in each row; T if None.
        observed: (N, T) whether each step was observed; all if None.
        expectation: `by_posterior`, or `by_factored` for variational EM.
        tolerance: Stops after an iteration that gains less, in nats for all data.
        iterations: Maximum number of iterations.
        restarts: Number of random starts, if `start` is a number.
        seed: Seed for these.

    Raises:
        BadInput: An argument is not valid; the message says which, and how to fix it.

    References:
        Baum, Petrie, Soules & Weiss 1970, doi:10.1214/aoms/1177697196; Dempster, Laird & Rubin 1977.
        Ghahramani & Jordan 1997, Factorial hidden Markov models, doi:10.1023/A:1007425814087, for the factored q.
    """
    x = x.double() if x.is_floating_point() else x
    if isinstance(start, HiddenMarkov):
        starts = [start]
    else:
        starts = [
            random_start(x, start, lengths=lengths, observed=observed, seed=s)
            for s in rng.children(rng.or_default(seed), restarts)
        ]
    found = [_climb(one, x, lengths, observed, expectation, tolerance, iterations) for one in starts]
    best = max(found, key=lambda one: one.log_evidence)
    return Learnt(best.model, best.bound, best.converged, tuple(one.log_evidence for one in found))


def _climb(
    start: HiddenMarkov,
    x: Tensor,
    lengths: Tensor | None,
    observed: Tensor | None,
    expectation: Expectation,
    tolerance: float,
    iterations: int,
) -> Learnt:
    model, bound, before = _in_double(start), [], None
    for _ in range(iterations + 1):
        before = expectation(model.log_densities(x, lengths, observed=observed), lengths, before)
        bound.append(float(before.bound))
        if not bound[-1] > LOG_ZERO / 2:
            raise BadInput("The data are impossible under the start. Wanted: a start with positive probabilities.")
        gained = bound[-1] - bound[-2] if len(bound) > 1 else math.inf
        if gained < tolerance or len(bound) > iterations:
            break
        model = _maximised(model, x, lengths, observed, before)
    return Learnt(model, tuple(bound), gained < tolerance)


def _maximised(
    model: HiddenMarkov, x: Tensor, lengths: Tensor | None, observed: Tensor | None, found: Expected
) -> HiddenMarkov:
    """The M-step."""
    here = inside(x, lengths) if observed is None else inside(x, lengths) & observed
    return HiddenMarkov(
        shares(found.states[:, 0].sum(0), model.initial),
        shares(found.moves, model.transition),
        model.emission.learnt(filled(x, here), found.states * here[..., None]),
    )


def _in_double(model: HiddenMarkov) -> HiddenMarkov:
    emission: Emission = type(model.emission)(*(v.detach().double() for v in vars(model.emission).values()))
    return HiddenMarkov(_rows(model.initial), _rows(model.transition), emission)


def _rows(probability: Tensor) -> Tensor:
    """Converts to double precision, in which rows sum to one."""
    doubled = probability.detach().double()
    return doubled / doubled.sum(-1, keepdim=True)
