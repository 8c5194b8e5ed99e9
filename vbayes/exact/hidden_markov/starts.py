"""Initial models for learning."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import rng
from ...arguments.kind import Optional
from ...arguments.names import SIZE
from ...arguments.takes import takes
from ...errors import BadInput
from .emissions import CategoricalEmission, Emission, GaussianEmission
from .model import HiddenMarkov
from .sequences import check_sequences, check_shapes

STAY = 0.8  # weight of self-transitions, as such models are meant for states that last


@takes(states=SIZE, symbols=Optional(SIZE))
def random_start(
    x: Tensor,
    states: int,
    *,
    symbols: int | None = None,
    lengths: Tensor | None = None,
    observed: Tensor | None = None,
    seed: int | None = None,
) -> HiddenMarkov:
    """A random model that could have generated the data, with distinct states.

    Gaussian for real numbers: means at data drawn without replacement, the data's standard deviation. Categorical for
    integers: frequencies of the data, each times a draw from Exponential(1).

    Args:
        x: (N, T), (N, T, D), or (N, T) integers.
        states: S.
        symbols: K for integers; the largest symbol and one if None.
        lengths, observed: As for `HiddenMarkov`.
        seed: Seed for the draws.
    """
    if states < 1:
        raise BadInput(f"states={states}. Wanted: at least 1.")
    generator = torch.Generator(x.device).manual_seed(rng.or_default(seed))
    check_shapes(tuple(x.shape[2:]) if x.is_floating_point() else (), x, lengths)
    emission: Emission
    if x.is_floating_point():
        like = x.new_zeros(states, *x.shape[2:])
        seen = x[check_sequences(GaussianEmission(like, like + 1), x, lengths, observed)]
        if len(seen) < states:
            raise BadInput(f"{len(seen)} observed steps for {states} states. Wanted: at least one for each.")
        chosen = torch.randperm(len(seen), generator=generator, device=x.device)[:states]
        spread = seen.std(0, correction=0) if len(seen) > 1 else torch.ones_like(seen[0])
        spread = torch.where(spread > 0, spread, 1.0)
        emission = GaussianEmission(seen[chosen], spread.expand_as(like).clone())
    else:
        count = symbols or int(x.max()) + 1
        even = torch.full((states, count), 1 / count, device=x.device)
        seen = x[check_sequences(CategoricalEmission(even), x, lengths, observed)]
        frequency = torch.bincount(seen.long(), minlength=count) + 1.0
        weight = frequency * torch.empty_like(even).exponential_(generator=generator)
        emission = CategoricalEmission(weight / weight.sum(-1, keepdim=True))
    like = x if x.is_floating_point() else torch.zeros((), device=x.device)
    transition = like.new_full((states, states), (1 - STAY) / max(states - 1, 1))
    transition.fill_diagonal_(STAY if states > 1 else 1.0)
    return HiddenMarkov(like.new_full((states,), 1 / states), transition, emission)
