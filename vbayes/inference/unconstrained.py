"""log p and log q of a pair as functions of unconstrained numbers, with their gradients, for many chains at once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.transforms import Transform

from .. import rng
from ..data.dataset import Batch
from ..drawing.densities import flow
from ..errors import Unsuitable
from ..pair.pair import Pair
from ..pair.sites import Layout, is_point_mass, latents
from ..staging.trace import trace
from ..validation import no_warnings_of_nan, validation, vmap

Seen = tuple[Tensor, Tensor, Tensor, Tensor]
"""log p and log q, each (C, *local), and their gradients, each (C, *local, n)."""
Target = Callable[[Tensor], Seen]
"""Of states (C, *local, n)."""


class Unconstrained:
    """The latents of a pair, laid out as n numbers for each datum (or for all data, where they are not independent).

    Both densities are of these numbers: they have the volume of the map to the latents in them, and of the maps of an autoguide.

    Args:
        pair: An initialised pair.
        batch: The rows.

    Attributes:
        local: Sizes of the plates that all sites share.
        size: n.

    Raises:
        Unsuitable: A latent is discrete, or its support depends on another draw.
    """

    def __init__(self, pair: Pair, batch: Batch) -> None:
        self.pair, self.batch = pair, batch
        with pair.scope(), torch.no_grad(), validation(False):
            with rng.seeded(0):
                q, p = pair.run(batch)
            with rng.seeded(1):
                other, _ = pair.run(batch)
        self.sites: dict[str, Any] = {s["name"]: s for s in latents(q) if not is_point_mass(s["fn"])}
        self._require(other)
        self.transforms: dict[str, Transform] = {name: biject_to(s["fn"].support) for name, s in self.sites.items()}
        layout = Layout(q, p)
        self._frames = layout.local
        self.local = tuple(f.size for f in self._frames)
        self._like: dict[str, Tensor] = {
            name: self.transforms[name].inv(s["value"])
            for name, s in self.sites.items()  # type: ignore[operator]
        }
        self._sizes = [self._rows(name, u).shape[-1] for name, u in self._like.items()]
        self.size = sum(self._sizes)

    def _require(self, other: pyro.poutine.Trace) -> None:
        for name, site in self.sites.items():
            if site["value"].dtype.is_floating_point and not site["fn"].support.is_discrete:
                again: Any = other.nodes[name]
                first, second = (biject_to(s["fn"].support) for s in (site, again))
                probe = first.inv(site["value"])
                if torch.equal(first(probe), second(probe)):
                    continue
                raise Unsuitable(
                    f"The support of latent {name!r} depends on another draw. Wanted: a fixed support; rescale the latent instead."
                )
            raise Unsuitable(
                f"Latent {name!r} is discrete, and annealing moves along gradients. Use method='exact' where its values can be enumerated, "
                "or 'iw'."
            )

    def _rows(self, name: str, value: Tensor) -> Tensor:
        """(*local, own) of one site's numbers."""
        event = self.sites[name]["fn"].event_dim
        dims = [value.dim() + f.dim - event for f in self._frames]
        rest = [d for d in range(value.dim()) if d not in dims]
        return value.permute([*dims, *rest]).reshape(*self.local, -1)

    def _shaped(self, name: str, rows: Tensor) -> Tensor:
        """Back from `_rows`."""
        like, event = self._like[name], self.sites[name]["fn"].event_dim
        dims = [like.dim() + f.dim - event for f in self._frames]
        order = [*dims, *(d for d in range(like.dim()) if d not in dims)]
        return rows.reshape([like.shape[d] for d in order]).permute([order.index(d) for d in range(like.dim())])

    def on(self, batch: Batch) -> Unconstrained:
        """The same of other rows, as many."""
        other = copy.copy(self)
        other.batch = batch
        return other

    def values(self, state: Tensor) -> dict[str, Tensor]:
        """Site → its latents, of numbers (*local, n)."""
        parts = zip(self.sites, state.split(self._sizes, -1), strict=True)
        return {name: self.transforms[name](self._shaped(name, rows)) for name, rows in parts}  # type: ignore[operator]

    def flat(self, values: dict[str, Tensor]) -> Tensor:
        """(*local, n) of the latents."""
        found = [self._rows(name, self.transforms[name].inv(values[name])) for name in self.sites]  # type: ignore[operator]
        return torch.cat(found, -1)

    def origin(self, model: pyro.poutine.Trace) -> Tensor:
        """(*local, n) of the latents of a run of the model.

        Raises:
            Unsuitable: The guide has numbers of its own that can't be had from them.
        """
        values = {}
        for name in self.sites:
            latent = name.removesuffix("_unconstrained")  # as AutoNormal and AutoDiagonalNormal's relatives call theirs
            if latent not in model:
                raise Unsuitable(
                    f"The guide of pair {self.pair.name!r} computes the model's latents from draws of its own, and it can't be known which of these belong to latents drawn by the model. "
                    "Wanted: method='ais', or a guide with the model's sites, such as AutoNormal."
                )
            site: Any = model.nodes[latent]
            values[name] = site["value"] if latent == name else biject_to(site["fn"].support).inv(site["value"])
        return self.flat(values)

    def draws(self, count: int) -> Tensor:
        """(C, *local, n) from the guide, inside the pair's scope."""
        found = []
        for _ in range(count):
            nodes: dict[str, Any] = pyro.poutine.trace(self.pair.guide).get_trace(*self.batch.args).nodes
            found.append(self.flat({name: nodes[name]["value"] for name in self.sites}))
        return torch.stack(found).detach()

    def one(self, state: Tensor) -> Seen:
        """For one chain: (*local, n) → log p, log q and their gradients."""
        with torch.enable_grad():
            live = state.detach().requires_grad_()
            parts = dict(zip(self.sites, live.split(self._sizes, -1), strict=True))
            numbers = {name: self._shaped(name, rows) for name, rows in parts.items()}
            values = {name: self.transforms[name](u) for name, u in numbers.items()}
            volumes = {name: self.transforms[name].log_abs_det_jacobian(u, values[name]) for name, u in numbers.items()}
            log_p, log_q = flow(self.pair.model, self.pair.guide, self.batch.args, values, volumes)
            gradients = [
                torch.autograd.grad(value.sum(), live, retain_graph=True, materialize_grads=True, allow_unused=True)[0]
                for value in (log_p, log_q)
            ]
        return log_p.detach(), log_q.detach(), gradients[0], gradients[1]

    def target(self, chains: int) -> Target:
        """The same for many chains: one captured program, or one chain after the other where there can be none."""

        def loop(states: Tensor) -> Seen:
            found = [self.one(state) for state in states]
            return tuple(torch.stack(part) for part in zip(*found, strict=True))  # type: ignore[return-value]

        example = self.draws(chains)
        try:
            with no_warnings_of_nan():
                graph = trace(
                    lambda state: self.one(state), example[0]
                )  # a method has one argument too many for the tracer
                together = vmap(graph)
                same = zip(together(example), loop(example), strict=True)
            close = all(torch.allclose(a, b, rtol=1e-3, atol=1e-3, equal_nan=True) for a, b in same)
        except Exception:  # whatever the model's code raises on a traced value
            return loop
        return together if close else loop
