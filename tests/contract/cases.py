"""Every estimator with every pair of known answers, and what the answers are."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

import vbayes as vb
from vbayes import moments
from vbayes.bench import BLOCKS
from vbayes.moments import Moments
from vbayes.pairs import TRACTABLE
from vbayes.replicas import Replicas
from vbayes.staging import draw_noise, replicate

NEGLIGIBLE = 1e-7  # of q's mass, in bounds of several particles: far below a standard error of 1e5 draws
ROUNDING = 1e-9  # of the exact gradient's length; what an estimator without noise may be off by


def smallest(name: str) -> vb.Estimator:
    """The estimator with as few particles as it can have, but two where one would make its bound the ELBO."""
    kind = vb.ESTIMATORS[name]
    return kind(num_particles=max(kind.min_particles, 1 if kind.bound == "ELBO" else 2))


def bound_of(estimator: vb.Estimator) -> Callable[[Tensor], Tensor]:
    return getattr(estimator, "bound_of", lambda log_w: log_w.mean(0))


def unbiased_in(estimator: vb.Estimator) -> frozenset[str]:
    return getattr(estimator, "unbiased_in", frozenset({"model", "guide"}))


def suits(name: str, pair_name: str) -> bool:
    """Whether the estimator can work on the pair; it says so when it draws."""
    estimator, batch = smallest(name), TRACTABLE[pair_name].batch()
    try:
        with TRACTABLE[pair_name].pair().scope(), vb.seeded(0):
            vb.draw(TRACTABLE[pair_name].pair(), batch, estimator.num_particles, estimator.needs)
    except vb.errors.Unsuitable:
        return False
    return True


CASES = [case for case in itertools.product(vb.ESTIMATORS, TRACTABLE) if suits(*case)]


@functools.cache
def moved(pair_name: str) -> vb.Pair:
    """The pair at parameters without symmetry, in double precision."""
    pair = TRACTABLE[pair_name].pair()
    with vb.seeded(5):
        return pair.load({k: v + 0.3 * torch.randn_like(v) for k, v in pair.parameters.items()})


@dataclass(frozen=True)
class Truth:
    """What the draws of an estimator must have as their mean.

    Attributes:
        value: () the expected bound, for all data.
        gradient: (P,) its gradient; P runs over the pair's parameters, each flattened.
        parts: (P,) of "model", "guide" or "model and guide": what the coordinate is a parameter of.
        names: (P,) of parameters.
    """

    value: Tensor
    gradient: Tensor
    parts: tuple[str, ...]
    names: tuple[str, ...]

    def coordinates(self, parts: frozenset[str]) -> list[int]:
        """Those that belong to some parts and to no others."""
        return [i for i, part in enumerate(self.parts) if set(part.split(" and ")) <= parts]


PROBE = torch.tensor([0.3, -1.2, 0.8, 2.1, -0.4, 1.7, 0.05, -0.9, 1.1, 0.6], dtype=torch.float64)
_truths: dict[tuple, Truth] = {}


def truth(estimator: vb.Estimator, pair_name: str) -> Truth:
    """By autograd through the exact expectation of the estimator's bound."""
    bound, k = bound_of(estimator), estimator.num_particles
    # Estimators of the same bound, which they show on a probe, share the answer; a mean needs no tuples.
    probe = bound(PROBE[:k, None])
    if torch.equal(probe, PROBE[:k, None].mean(0)):
        k = 1
    key = (pair_name, k, () if k == 1 else tuple(probe.tolist()))
    if key not in _truths:
        pair = moved(pair_name)
        with pair.scope():
            leaves = pair.leaves
            table = vb.tabulate(pair, TRACTABLE[pair_name].batch())
            value = table.expected(bound if k > 1 else lambda w: w[0], k, **({"negligible": NEGLIGIBLE} if k > 1 else {})).sum()  # fmt: skip
            every = list(leaves.values())
            found = torch.autograd.grad(value, every, retain_graph=True, materialize_grads=True)
            reached = {"model": _reached(table.log_p, every), "guide": _reached(table.log_q, every)}
            parts, names = [], []
            for i, (name, leaf) in enumerate(leaves.items()):
                part = " and ".join(part for part, those in reached.items() if those[i])
                parts += [part] * leaf.numel()
                names += [name] * leaf.numel()
            gradient = torch.cat([g.reshape(-1) for g in found])
        _truths[key] = Truth(value.detach(), gradient, tuple(parts), tuple(names))
    return _truths[key]


def _reached(density: Tensor, leaves: list[Tensor]) -> list[bool]:
    """Which leaves a density depends on."""
    if not density.requires_grad:
        return [False] * len(leaves)
    gradients = torch.autograd.grad(density.sum(), leaves, retain_graph=True, allow_unused=True)
    return [gradient is not None for gradient in gradients]


@functools.cache
def drawn(name: str, pair_name: str, replicas: int) -> Moments:
    """Of the gradient's P coordinates and, as the last one, of the value: blocks of independent draws."""
    estimator, pair, batch = smallest(name), moved(pair_name), TRACTABLE[pair_name].batch()
    right = truth(estimator, pair_name)
    many = Replicas(pair, estimator, batch)
    assert many.why_slow is None, many.why_slow
    size = replicas // BLOCKS

    def blocks() -> Iterator[Iterator[Tensor]]:
        for block in range(BLOCKS):
            with vb.seeded(block), torch.no_grad():
                noise = draw_noise(many.sizes, size, right.gradient)
                # In pieces that stay in the cache.
                yield iter(
                    [_both(many, pair, piece, batch) for piece in zip(*(n.split(4000) for n in noise), strict=True)]
                )

    return moments.collect(blocks(), torch.cat([right.gradient, right.value[None]]), size)


def _both(many: Replicas, pair: vb.Pair, noise: tuple[Tensor, Tensor], batch: vb.Batch) -> Tensor:
    gradients, values = replicate(many.program, pair.parameters, noise, batch.args)
    rows = [gradients[name].reshape(len(values), -1) for name in pair.parameters]
    return torch.cat([*rows, values.reshape(-1, 1)], 1)


def limit(coordinates: int) -> float:
    """Standard errors at which a case fails: together its coordinates raise a false alarm as rarely as one does at 4.

    (Bonferroni: each gets an equal share of that chance, 6e-5.)
    """
    return float(stats.norm.isf(stats.norm.sf(4.0) / coordinates))


def z(m: Moments, i: int, right: Tensor, rounding: float) -> float:
    """How many standard errors coordinate i is off."""
    return abs(moments.bias_z(m.select(torch.tensor([i])), right.reshape(1), rounding))
