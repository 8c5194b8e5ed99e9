"""A hidden Markov model small enough to count out all its paths."""

from __future__ import annotations

import itertools

import torch

import vbayes as vb
from vbayes.exact.hidden_markov import HiddenMarkov

STATES = 3


def gaussian() -> HiddenMarkov:
    """Three states without symmetry."""
    return vb.HiddenMarkov(
        torch.tensor([0.2, 0.5, 0.3]),
        torch.tensor([[0.7, 0.2, 0.1], [0.15, 0.6, 0.25], [0.3, 0.1, 0.6]]),
        vb.GaussianEmission(torch.tensor([-1.0, 0.4, 2.0]), torch.tensor([0.7, 0.5, 1.1])),
    )


def categorical() -> HiddenMarkov:
    """The same chain, seen through four symbols, one of which a state never shows."""
    rows = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.6, 0.1, 0.2, 0.1], [0.25, 0.0, 0.5, 0.25]])
    return vb.HiddenMarkov(gaussian().initial, gaussian().transition, vb.CategoricalEmission(rows))


def vectors() -> HiddenMarkov:
    """The same chain, seen through two numbers a step."""
    mean = torch.tensor([[-1.0, 0.3], [0.4, -0.5], [2.0, 0.1]])
    return vb.HiddenMarkov(gaussian().initial, gaussian().transition, vb.GaussianEmission(mean, 0.5 + mean.abs() / 2))


MODELS = {"gaussian": gaussian, "categorical": categorical, "vectors": vectors}


def counted_out(
    model: HiddenMarkov, x: torch.Tensor, observed: torch.Tensor | bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every path (P, T) and its log p(x, path) (P,), for one sequence x (T, ...), of the steps that were observed."""
    paths = torch.tensor(list(itertools.product(range(model.states), repeat=len(x))))
    seen = (model.emission.given(paths).log_prob(x.expand(len(paths), *x.shape)) * torch.as_tensor(observed)).sum(-1)
    moves = model.transition[paths[:, :-1], paths[:, 1:]].log().sum(-1)
    return paths, model.initial[paths[:, 0]].log() + moves + seen
