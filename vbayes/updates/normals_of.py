"""Finds the parameters of a guide that belong to a normal whose metric is known in closed form."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro.distributions import MultivariateNormal, Normal
from pyro.infer.autoguide import AutoMultivariateNormal
from torch import Tensor
from torch.distributions import transform_to

from ..data.dataset import Batch
from ..errors import Unsuitable
from ..guides import Auto, Diagonal, Full
from ..pair.pair import Pair
from ..pair.sites import base, latents
from .normal_parameters import NormalParameters

BY_KIND: dict[type, tuple[str, ...]] = {
    Diagonal: ("loc", "scale"),
    Full: ("loc", "scale_tril"),
    AutoMultivariateNormal: ("loc", "scale", "scale_tril"),
}
"""Guides whose sites depend on more than their parameters, or transform them."""


def normals_of(pair: Pair, batch: Batch) -> tuple[NormalParameters, ...]:
    """The normals of a guide, inside the scope of its pair.

    A normal is found if location and standard deviations, or a triangle, of a site are parameters themselves: not computed by a network, indexed by row, or shared.

    Args:
        pair: An initialised pair.
        batch: The arguments that model and guide are called with.

    Raises:
        Unsuitable: The guide has no such normal.
    """
    constraints = pyro.get_param_store().get_state()["constraints"]
    leaves = pair.leaves
    names = {id(leaf): name for name, leaf in leaves.items()}
    found: list[NormalParameters] = []

    def normal(*members: str) -> None:
        found.append(
            NormalParameters(members, tuple(constraints[name] for name in members[1:]), _full(leaves, members))
        )

    for module in pair.modules:
        kind = module.kind if isinstance(module, Auto) else type(module)
        if kind in BY_KIND:
            held = [getattr(module, f"{name}_unconstrained", None) for name in BY_KIND[kind]]
            tensors = [getattr(module, n) if t is None else t for n, t in zip(BY_KIND[kind], held, strict=True)]
            normal(*(names[id(tensor)] for tensor in tensors))
    if not found:
        heads = _heads(pair, batch)
        reached = [{name for head in site for name in _reached(head, leaves)} for site in heads]
        for site in heads:
            members = [_same(head, leaves, constraints) for head in site]
            if None not in members and all(sum(n in others for others in reached) == 1 for n in members):
                normal(*members)  # type: ignore[arg-type]
    if not found:
        raise Unsuitable(
            f"The guide of pair {pair.name!r} has no normal whose Fisher matrix is known in closed form: its locations and scales come from a network or a selection of "
            "rows, or its covariance is of low rank, where rotating the factor changes nothing and the matrix has no inverse. Wanted: guide='diagonal' or 'full', Pyro's "
            "AutoNormal, AutoDiagonalNormal or AutoMultivariateNormal, or dist.Normal with two parameters. Fix: leave out update=, for Adam."
        )
    return tuple(found)


def _full(leaves: dict[str, Tensor], members: tuple[str, ...]) -> bool:
    return leaves[members[-1]].dim() == 2 and leaves[members[0]].dim() == 1


def _heads(pair: Pair, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Location and scale, or triangle, of each normal site."""
    with pair.look():
        q, _ = pair.run(batch)
    found = []
    for site in latents(q):
        fn: Any = base(site["fn"])
        if isinstance(fn, Normal):
            found.append((fn.loc, fn.scale))
        elif isinstance(fn, MultivariateNormal) and fn.loc.dim() == 1:
            found.append((fn.loc, fn.scale_tril))
    return found


def _reached(head: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name → gradient of a weighted sum of a tensor."""
    if not head.requires_grad:
        return {}
    gradients = torch.autograd.grad(
        (head * _weights(head)).sum(), list(leaves.values()), allow_unused=True, retain_graph=True
    )
    return {name: g for name, g in zip(leaves, gradients, strict=True) if g is not None}


def _same(head: Tensor, leaves: dict[str, Tensor], constraints: Any) -> str | None:
    """The parameter that a tensor is; None if it is computed from one or more parameters."""
    reached = _reached(head, leaves)
    if len(reached) != 1:
        return None
    ((name, gradient),) = reached.items()
    leaf = leaves[name]
    if leaf.shape != head.shape:
        return None
    with torch.enable_grad():
        live = leaf.detach().requires_grad_()
        value = transform_to(constraints[name])(live)
        (own,) = torch.autograd.grad((value * _weights(head)).sum(), live)
    return name if torch.equal(value, head) and torch.allclose(own, gradient) else None


def _weights(like: Tensor) -> Tensor:
    return torch.arange(1.0, like.numel() + 1, dtype=like.dtype, device=like.device).reshape(like.shape)
