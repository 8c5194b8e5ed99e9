"""Distributions over whole sequences of states, and of observations."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.distributions import Independent, register_kl

from ..exact import hidden_markov as truth
from ..exact.hidden_markov import Emission, sample_prior


class MarkovChain(dist.TorchDistribution):
    """z_1 ~ initial, z_{t+1} ~ transition[z_t], over sequences of T states.

    Past a row's end states are independent and uniform, so that a q which is uniform there too pays and gains nothing.

    Args:
        initial: (S,) log-probabilities.
        transition: (S, S) log-probabilities, by rows.
        steps: T.
        lengths: (N,) steps that count in each row; None is T.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, initial: Tensor, transition: Tensor, steps: int, lengths: Tensor | None = None) -> None:
        self.initial, self.transition, self.steps, self.lengths = initial, transition, steps, lengths
        super().__init__(torch.Size() if lengths is None else lengths.shape, torch.Size([steps]), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Integers from 0 to S − 1."""
        return constraints.independent(constraints.integer_interval(0, len(self.initial) - 1), 1)

    def expand(self, batch_shape: Any, _instance: object = None) -> MarkovChain:
        lengths = None if self.lengths is None else self.lengths.expand(batch_shape)
        new = MarkovChain(self.initial, self.transition, self.steps, lengths)
        new._batch_shape = torch.Size(batch_shape)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        moves = self.transition[value[..., :-1], value[..., 1:]]
        if self.lengths is not None:
            moves = torch.where(self._within()[..., 1:], moves, -math.log(len(self.initial)))
        return self.initial[value[..., 0]] + moves.sum(-1)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        shape = torch.Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            paths = sample_prior(self.initial, self.transition, shape.numel(), self.steps, generator=None)
        paths = paths.reshape(*shape, self.steps)
        return (
            paths
            if self.lengths is None
            else torch.where(self._within(), paths, torch.randint_like(paths, len(self.initial)))
        )

    def _within(self) -> Tensor:
        assert self.lengths is not None
        return torch.arange(self.steps, device=self.lengths.device) < self.lengths[..., None]


class Observed(dist.TorchDistribution):
    """x of a hidden Markov model, with the states summed out.

    Args:
        initial, transition, steps, lengths: As for `MarkovChain`.
        emission: p(x_t | z_t).
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self, initial: Tensor, transition: Tensor, emission: Emission, steps: int, lengths: Tensor | None = None
    ) -> None:
        self.states, self.emission = MarkovChain(initial, transition, steps, lengths), emission
        super().__init__(self.states.batch_shape, torch.Size([steps, *emission.features]), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """That of the emission."""
        example = self.emission.given(self.states.initial.new_zeros((), dtype=torch.long))
        return constraints.independent(example.support, 1)

    def expand(self, batch_shape: Any, _instance: object = None) -> Observed:
        chain = self.states.expand(batch_shape)
        new = Observed(chain.initial, chain.transition, self.emission, chain.steps, chain.lengths)
        new.states = chain
        new._batch_shape = torch.Size(batch_shape)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        chain = self.states
        rows = value.reshape(-1, *self.event_shape)
        emission = self.emission.log_prob(rows)
        lengths = chain.lengths
        if lengths is not None:
            lengths = lengths.expand(value.shape[: value.dim() - len(self.event_shape)]).reshape(-1)
        found = truth.log_evidence(chain.initial, chain.transition, emission, lengths)
        return found.reshape(value.shape[: value.dim() - len(self.event_shape)])

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        with torch.no_grad():
            return self.emission.given(self.states.sample(sample_shape)).sample()


@register_kl(Independent, MarkovChain)
def _kl(q: Independent, p: MarkovChain) -> Tensor:
    """(*batch) KL of independent categorical states and a chain."""
    inner = q.base_dist
    if (
        not isinstance(inner, torch.distributions.Categorical)
        or inner.logits.shape[:-1] != q.batch_shape + p.event_shape
    ):
        raise NotImplementedError
    log_q = inner.logits
    kl = -truth.elbo(p.initial, p.transition, torch.zeros_like(log_q), log_q, p.lengths)
    if p.lengths is None:
        return kl
    past = log_q.exp() * (log_q + math.log(len(p.initial)))
    return kl + (past * ~p._within()[..., None]).sum((1, 2))
