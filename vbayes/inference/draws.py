"""Draws from a guide with their densities, from which posteriors, importance weights and diagnoses are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..data.dataset import Batch
from ..drawing.densities import guide_density
from ..drawing.summed import Summed, model_terms
from ..errors import Unsuitable
from ..pair.pair import Pair
from ..pair.sites import Frames, Layout, is_point_mass, latents, summed_out
from ..staging.many import Affordable, many
from ..validation import validation


@dataclass(frozen=True)
class Draws:
    """K draws from a guide. `*local` are the sizes of the plates that all sites share.

    Attributes:
        values: Site → (K, …) values of the model's latents; latents that the model sums out are drawn from their conditional given the rest.
        log_p, log_q: (K, *local) float64, nats, masks and scales applied, but not a common minibatch scale.
        frames: The local plates.
        events: Site → its event dimensions.
    """

    values: Mapping[str, Tensor]
    log_p: Tensor
    log_q: Tensor
    frames: Frames
    events: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.log_q)

    @property
    def log_w(self) -> Tensor:
        """(K, *local) log-weights."""
        return self.log_p - self.log_q

    def spread(self, name: str, numbers: Tensor) -> Tensor:
        """Reshapes numbers for each draw and datum, (S, *local), so that they broadcast with a site's values (K, …)."""
        shape = [1] * (self.values[name].dim() - 1)
        for frame in self.frames:
            shape[len(shape) + frame.dim - self.events[name]] = frame.size
        return numbers.reshape(len(numbers), *shape)

    def taken(self, chosen: Tensor) -> dict[str, Tensor]:
        """Site → (S, …), the draws of each datum selected by the indices `chosen`, (S, *local)."""
        found = {}
        for name, values in self.values.items():
            index = self.spread(name, chosen).expand(len(chosen), *values.shape[1:])
            found[name] = torch.take_along_dim(values, index, 0)
        return found


def draws_of(pair: Pair, batch: Batch, count: int | Affordable, seed: int) -> Draws:
    """Makes K draws, in parallel where pair and data allow it.

    Args:
        pair: An initialised pair.
        batch: The rows, not rescaled to the size of a larger data set.
        count: Number of draws, K.
        seed: Seed for the draws.

    Raises:
        Unsuitable: The guide consists of point masses alone.
    """
    about: dict[str, Any] = {}

    def one() -> dict[str, Tensor]:
        q, p = pair.run(batch)
        if all(is_point_mass(site["fn"]) for site in latents(q)):
            raise Unsuitable(f"The guide of pair {pair.name!r} draws nothing. Wanted: latents with a density.")
        shared = Layout(q, p)
        log_p = shared.total(model_terms(pair.model, batch.args, {}, q, p, shared))
        known = [site for site in latents(q) if site["name"] in p]
        if names := summed_out(q, p):
            made: dict[str, Any] = dict(Summed(pair.model, batch.args, {}, q, p).drawn.nodes)
            known += [made[name] for name in names]
        about.update(frames=shared.local, events={site["name"]: site["fn"].event_dim for site in known})
        values = {f"z.{site['name']}": site["value"] for site in known}
        return values | {"log_p": log_p.double(), "log_q": guide_density(q, shared).double()}

    with pair.scope(), torch.no_grad(), rng.seeded(seed), validation(False):
        found = many(one, count, batch.args[0].device if batch.args else torch.device("cpu"))
    log_p, log_q = found.pop("log_p"), found.pop("log_q")
    return Draws({name.removeprefix("z."): v for name, v in found.items()}, log_p, log_q, **about)
