"""The rank of a latent's true value among draws of a guide, for many data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor

from .. import rng
from ..data.dataset import Batch
from ..pair.pair import Pair
from ..staging.noise import Recorder, draw_noise
from ..staging.pure import Deferred, Substitute, no_branch_on_values
from ..staging.trace import trace
from ..validation import validation, vmap

Draw = Callable[[Pair, Batch, int, int], dict[str, Tensor]]
"""(pair, batch, S, seed) → site → (S, …)."""
TIES = 1  # purpose of a stream of random numbers


def ranks_of(
    pairs: Sequence[Pair],
    batches: Sequence[Batch],
    truths: Sequence[Mapping[str, Tensor]],
    draws: int,
    seeds: Sequence[int],
) -> dict[str, Tensor]:
    """Site → (R, …) int64 ranks: how many of S draws of each pair's guide are below the true value; ties are broken at random.

    Args:
        pairs: R trained pairs of the same model and guide.
        batches: The arguments of each.
        truths: Site → true value, for each.
        draws: Number of draws, S.
        seeds: Seeds of the draws.
    """
    kinds: dict[Any, Draw] = {}  # a richer guide may have been chosen for some of them
    found: dict[str, list[Tensor]] = {name: [] for name in truths[0]}
    for pair, batch, truth, seed in zip(pairs, batches, truths, seeds, strict=True):
        kind = type(pair.guide), *((name, value.shape) for name, value in pair.state().items())
        if kind not in kinds:
            kinds[kind] = _captured(pair, batch, list(truth)) or _one_by_one(list(truth))
        for name, values in kinds[kind](pair, batch, draws, seed).items():
            below, equal = (values < truth[name]).sum(0), (values == truth[name]).sum(0)
            shares = torch.rand(equal.shape, generator=rng.stream(seed, TIES), device="cpu")
            found[name].append((below.cpu() + (shares * (equal.cpu() + 1)).floor()).long())
    return {name: torch.stack(each) for name, each in found.items()}


def _values(pair: Pair, batch: Batch, names: Sequence[str]) -> list[Tensor]:
    nodes: dict[str, Any] = pyro.poutine.trace(pair.guide).get_trace(*batch.args).nodes
    return [nodes[name]["value"] for name in names]


def _one_by_one(names: list[str]) -> Draw:
    def draw(pair: Pair, batch: Batch, count: int, seed: int) -> dict[str, Tensor]:
        with pair.look(seed), torch.no_grad(), validation(False):
            rows = [_values(pair, batch, names) for _ in range(count)]
        return dict(zip(names, map(torch.stack, zip(*rows, strict=True)), strict=True))

    return draw


def _captured(pair: Pair, batch: Batch, names: list[str]) -> Draw | None:
    """A guide as a program of its parameters and arguments that draws in parallel; None if it can't be captured."""
    like = next(iter(pair.parameters.values()), torch.zeros((), device="cpu"))

    def run(state: dict[str, Tensor], noise: tuple[Tensor, Tensor], args: tuple[Any, ...]) -> list[Tensor]:
        pair.set_buffers(
            {name: state[name].clone() for name in pair.buffers}
        )  # buffers of a guide that has found its start
        replaced = [(leaf, state[name]) for name, leaf in pair.leaves.items()]
        with Recorder(noise), Substitute(replaced), Deferred():
            return _values(pair, Batch(args), names)

    try:
        with pair.look(), torch.no_grad(), validation(False), no_branch_on_values():
            with Recorder() as calls:
                _values(pair, batch, names)
            normals, uniforms = draw_noise(calls.sizes, 1, like)
            state = {name: value.detach().clone() for name, value in pair.state().items()}
            with Recorder((normals[0], uniforms[0]), in_place=True):
                right = _values(pair, batch, names)
            graph = trace(run, state, (normals[0], uniforms[0]), batch.args)
    except Exception:  # anything that the guide's code raises on a traced value
        return None
    sizes = calls.sizes

    def draw(pair: Pair, batch: Batch, count: int, seed: int) -> dict[str, Tensor]:
        with rng.seeded(seed), torch.no_grad():
            many = vmap(graph, in_dims=(None, 0, None), randomness="different")
            made = many(pair.state(), draw_noise(sizes, count, like), batch.args)
        return dict(zip(names, made, strict=True))

    try:
        with rng.seeded(0), torch.no_grad():
            made = graph(state, (normals[0], uniforms[0]), batch.args)
            same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(made, right, strict=True))
        return draw if same and draw(pair, batch, 2, 0) else None
    except Exception:  # operations without a rule for `vmap`
        return None
