"""A process's share of a minibatch: its rows and their base noise."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ..data.dataset import Dataset
from ..drawing.base_noise import Draw
from ..errors import BadInput
from ..pair.device import line_of
from ..pair.pair import Pair
from ..staging import Noise, Recorder, draw_noise, eager
from ..staging.noise import Sizes
from ..validation import no_warnings_of_nan, validation

LOOKED = 5  # number of rows for the test, in two parts of unequal size
MEND = (
    "Wanted: rows in the plate 'data', whose size comes from the arguments, with no operation that mixes rows and no values per row that are not indexed by `rows`; and random "
    "numbers that are made from normals and uniforms, or that do not depend on rows. Fix: devices=1."
)


@dataclass(frozen=True)
class Share:
    """One process's rows of a minibatch.

    Attributes:
        start, stop: Range of its rows.
        weight: Weight of its estimate in the mean over processes.
        sizes: Standard normals and uniforms that the whole minibatch needs.
        places: Positions of its own among them, (n,) and (u,).
    """

    start: int
    stop: int
    weight: float
    sizes: Sizes
    places: tuple[Tensor, Tensor]

    def noise(self, joint: Noise) -> Noise:
        """Its own part of the noise: (n,) and (u,)."""
        normals, uniforms = (each[place] for each, place in zip(joint, self.places, strict=True))
        return normals, uniforms


@dataclass(frozen=True)
class Sharing:
    """How the base noise of a minibatch depends on its rows.

    Attributes:
        draws: The calls for base noise at some number of rows.
        axes: For each call the dimension of the rows; None if it has none.
    """

    draws: tuple[Draw, ...]
    axes: tuple[int | None, ...]

    @classmethod
    def of(cls, few: Sequence[Draw], many: Sequence[Draw], sizes: tuple[int, int]) -> Sharing | None:
        """Infers it from the calls for two numbers of rows; None if the calls differ otherwise, or a plate subsamples its rows."""
        if any(draw.kind == "rows" for draw in few):
            return None
        axes = []
        for one, other in zip(few, many, strict=False):
            changed = [i for i, pair in enumerate(zip(one.shape, other.shape, strict=False)) if pair[0] != pair[1]]
            alike = (one.kind, one.dtype, len(one.shape)) == (other.kind, other.dtype, len(other.shape))
            if not alike or len(changed) > 1 or any((one.shape[i], other.shape[i]) != sizes for i in changed):
                return None
            axes.append(changed[0] if changed else None)
        return cls(tuple(few), tuple(axes)) if len(few) == len(many) else None

    def at(self, rows: int) -> list[Draw]:
        """The calls for this number of rows."""
        return [
            replace(draw, shape=tuple(rows if i == axis else size for i, size in enumerate(draw.shape)))
            for draw, axis in zip(self.draws, self.axes, strict=True)
        ]

    def share(self, rows: int, rank: int, world: int, device: torch.device) -> Share:
        """The share of one process in a minibatch with this number of rows. If there are fewer rows than processes, each takes all rows."""
        start, stop, weight = 0, rows, 1 / world
        if rows >= world:
            start, stop = rank * rows // world, (rank + 1) * rows // world
            weight = (stop - start) / rows
        found: dict[str, list[Tensor]] = {"normal": [], "uniform": []}
        before = {"normal": 0, "uniform": 0}
        joint = self.at(rows)
        for draw, axis in zip(joint, self.axes, strict=True):
            number = math.prod(draw.shape)
            places = torch.arange(number, device=device).view(draw.shape) + before[draw.kind]
            found[draw.kind].append((places if axis is None else places.narrow(axis, start, stop - start)).reshape(-1))
            before[draw.kind] += number
        none = torch.zeros(0, dtype=torch.long, device=device)
        normals, uniforms = (torch.cat([none, *found[kind]]) for kind in ("normal", "uniform"))
        return Share(start, stop, weight, Sizes.of(joint), (normals, uniforms))


def sharing_of(pair: Pair, estimator: Any, data: Dataset) -> Sharing:
    """Determines how minibatches are divided among processes, and tests that this is correct: for a few rows, the gradient, the ELBO and the buffers must be the weighted mean of those of two
    parts, on the same noise.

    With a scale of N/M for rows, each part's estimate is one of the whole ELBO, in which terms without rows count once, so the mean of such estimates, weighted by rows, is that of
    all rows. This fails if rows are combined other than by a sum, as in batch normalisation, or in the weights of a global latent.

    Raises:
        BadInput: They can't be divided.
    """
    total, like = len(data), next(iter(pair.parameters.values()))
    count = min(total, LOOKED)
    if count < 2:
        raise BadInput(f"The data have {total} row for several processes. Wanted: at least two rows. Fix: devices=1.")
    rows = torch.arange(count, device=data.first.device) * (total - 1) // (count - 1)
    run = eager(pair, copy.copy(estimator), total)

    def at(chosen: Tensor, noise: Noise | None) -> tuple[tuple[Any, ...], list[Draw]]:
        with pair.look(1), Recorder(noise) as calls:
            made = run(moved, buffers, None if noise is None else noise, data.batch(pair.model, chosen).args)
        return made, calls.draws

    with pair.look(1), validation(False), no_warnings_of_nan():
        moved = {name: value + 0.01 * torch.randn_like(value) for name, value in pair.parameters.items()}
        buffers = {name: value.clone() for name, value in pair.buffers.items()}
        try:
            run(
                moved, buffers, None, data.batch(pair.model, rows).args
            )  # some ELBOs run model and guide once before they start
            half = count - count // 2
            few, many = (at(rows[:number], None)[1] for number in (half, count))
            sharing = Sharing.of(few, many, (half, count))
            if sharing is None:
                raise _refused(pair, "its random numbers are not arranged by rows")
            normals, uniforms = draw_noise(Sizes.of(many), 1, like)
            noise = normals[0], uniforms[0]
            wanted, _ = at(rows, noise)
            shares = [sharing.share(count, number, 2, like.device) for number in range(2)]
            parts = [at(rows[s.start : s.stop], s.noise(noise))[0] for s in shares]
        except BadInput:
            raise
        except Exception as error:  # anything that the model's code raises on fewer rows
            raise _refused(pair, f"on {count} rows it fails{line_of(error)}: {str(error).splitlines()[0]}") from error
    if not _is_mean(wanted, parts, [s.weight for s in shares]):
        raise _refused(pair, "its gradient and ELBO on some rows are not the mean of those on two halves")
    return sharing


def _refused(pair: Pair, why: str) -> BadInput:
    return BadInput(f"The rows of pair {pair.name!r} can't be divided among processes: {why}. {MEND}")


def _is_mean(wanted: Any, parts: Sequence[Any], weights: Sequence[float]) -> bool:
    """Whether some tensors are the weighted mean of others up to rounding: to half of the digits, or to the precision of the largest number."""
    right, others = tree_leaves(wanted), [tree_leaves(part) for part in parts]
    longest = max((float(each.abs().max()) for each in right if each.is_floating_point() and each.numel()), default=0.0)
    for each, *some in zip(right, *others, strict=True):
        if not each.is_floating_point():  # a count
            if not all(torch.equal(each, one) for one in some):
                return False
            continue
        mean = sum(weight * one for weight, one in zip(weights, some, strict=True))
        eps = torch.finfo(each.dtype).eps
        near = eps**0.5 * (float(each.abs().max()) if each.numel() else 0.0) + 100 * eps * longest
        if not torch.allclose(torch.as_tensor(mean), each, rtol=0.0, atol=near, equal_nan=True):
            return False
    return True
