"""A single value for each latent: the mode."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pyro
from pyro.infer.autoguide import AutoDelta
from pyro.infer.autoguide.initialization import InitMessenger
from torch import Tensor
from torch.distributions import biject_to

from .search import Search
from .starts import mode
from .whitened import density_of, hidden, origin


class Point(AutoDelta):
    """A point mass at the latents' highest density in constrained space (maximum a posteriori), like `AutoDelta`.

    Args:
        model, seed: As for `Whitened`.

    Attributes:
        settled: Whether it is at a mode.
        search: How the mode was found; None before the first call.
        found: Site → value at the mode.
    """

    words = "point"
    _prototype_hide_fn = staticmethod(hidden)

    def __init__(self, model: Callable[..., Any], *, seed: int = 0) -> None:
        super().__init__(model, init_loc_fn=origin)
        self._plain, self._seed, self.settled = (model,), seed, False
        self.search: Search | None = None
        self.found: dict[str, Tensor] = {}

    def placed(self, search: Search, settled: bool) -> Point:
        """Skips the search, and returns itself; for loading a saved guide, whose values are its parameters."""
        self.search, self.settled = search, settled
        return self

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        if self.search is not None:
            super()._setup_prototype(*args, **kwargs)
            return
        with pyro.poutine.block():  # outer handlers should see the guide's first run, not its search
            began = time.perf_counter()
            density = density_of(self._plain[0], args, kwargs, volume=False)
            found = mode(density, self._seed)
            self.settled = found.settled
            seconds = time.perf_counter() - began
            self.search = Search(found.how, found.iterations, seconds, found.height, "log p(x, z)")
        values = {
            name: biject_to(site["fn"].support)(found.values[name].to(site["value"]))
            for name, site in density.sites.items()
        }
        self.found = values
        self._model = (
            InitMessenger(lambda site: values[site["name"]] if site["name"] in values else origin(site))(
                self._plain[0]
            ),
        )
        super()._setup_prototype(*args, **kwargs)
