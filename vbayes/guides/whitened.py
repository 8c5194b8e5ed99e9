"""Base of the guides chosen by name: they find their own start, and are whitened by the curvature there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import pyro
import torch
from pyro.infer.autoguide import AutoContinuous
from pyro.infer.autoguide.guides import prototype_hide_fn
from pyro.infer.autoguide.initialization import InitMessenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor
from torch.distributions import transform_to

from ..errors import Unsuitable
from ..summaries.card import first_few
from .curvature import Place, Places, whole
from .log_density import LogDensity, is_discrete
from .search import Search
from .starts import Start, best_normal

SMALL = 0.01  # relative mass of a mode below which it may be left out
LITTLE = 0.05  # fraction of a mode's density at its centre below which it counts as not covered


def origin(site: Any) -> Tensor:
    """The value at which a site's unconstrained numbers are all zero. It needs no draw, which a flat prior does not have."""
    fn = site["fn"]
    shape = fn.batch_shape + fn.event_shape
    if is_discrete(site):
        return fn.sample()
    transform = transform_to(fn.support)
    like = next((p for p in _numbers(fn) if p.is_floating_point()), None)
    if like is None:  # inside `to_event`
        device = next((p.device for p in _numbers(getattr(fn, "base_dist", fn))), "cpu")
        like = torch.zeros((), device=device)
    return transform(like.new_zeros(transform.inverse_shape(shape)))


def _numbers(fn: Any) -> list[Tensor]:
    return [p for p in vars(fn).values() if isinstance(p, Tensor)]


def hidden(msg: Any) -> bool:
    """Whether a site is hidden from a continuous guide, such as discrete latents, which are marginalised."""
    return bool(prototype_hide_fn(msg)) or _enumerable(msg)


def _enumerable(site: Any) -> bool:
    return bool(getattr(site["fn"], "has_enumerate_support", False)) and is_discrete(site)


def density_of(model: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, *, volume: bool = True) -> LogDensity:
    """The joint density of a model's continuous latents; `volume` as for `LogDensity`.

    Raises:
        Unsuitable: It has none, a discrete one with infinitely many values, or one without a density for some rows, as `obs_mask` makes.
    """
    run = in_the_middle(model, args, kwargs)
    found = [site for _, site in run.iter_stochastic_nodes()]
    if partly := [site["name"].removesuffix("_unobserved") for site in found if _is_left_by_obs_mask(site, run)]:
        raise Unsuitable(
            f"Site {partly[0]!r} has an obs_mask. Pyro then makes a latent '{partly[0]}_unobserved' with an element for every row, which has no density where {partly[0]!r} is observed, so no "
            "guide by name fits it. Fix: NaN in place of the missing values, with vb.fit(..., missing='mask'), or pyro.poutine.mask(mask=...) around the site, which leave them out; or, if the "
            "model goes on with them, a latent for the missing rows only."
        )
    if endless := [site["name"] for site in found if is_discrete(site) and not _enumerable(site)]:
        raise Unsuitable(
            f"Latent {endless[0]!r} is discrete with infinitely many values, so it can't be summed out, and has no gradient. Wanted: a guide of your own for it, "
            "with vb.RLOO(8) or another estimator that needs no path."
        )
    if not found:
        raise Unsuitable(
            "The model has no latents, so there is no posterior, and nothing for a guide to do. Wanted: latents; or, for the model's parameters alone, a guide that draws nothing: "
            "vb.fit(vb.Pair(model, lambda *args: None), data)."
        )
    if all(is_discrete(site) for site in found):
        raise Unsuitable(
            f"All latents of the model are discrete ({first_few(repr(site['name']) for site in found)}), so they are summed out and a named guide has nothing to approximate. Wanted: "
            "vb.tabulate(model, data), for log p(x) and the probability of each of their values; or, for the model's parameters, "
            "vb.fit(vb.Pair(pyro.infer.config_enumerate(model), lambda *args: None), data, vb.Enumerated())."
        )
    return LogDensity(model, args, kwargs, run, volume=volume)


def _is_left_by_obs_mask(site: Any, run: Any) -> bool:
    """Whether a latent is the part of `pyro.sample(name, ..., obs_mask=)` that was not observed, and has elements without a density."""
    name, mask = site["name"], site["mask"]
    other = name.removesuffix("_unobserved") + "_observed"
    return name.endswith("_unobserved") and other in run and isinstance(mask, Tensor) and not bool(mask.all())


def in_the_middle(model: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
    """A trace of a model with its latents at `origin`; works for flat priors too, which have no draws."""
    with torch.no_grad():
        run = pyro.poutine.block(pyro.poutine.trace(InitMessenger(origin)(model)).get_trace)(*args, **kwargs)
    return prune_subsample_sites(run)


class Whitened(AutoContinuous):
    """A guide for all continuous latents in coordinates whitened by the curvature: centre + L u, where u is close to standard normal.

    It searches for its start when first called. Its parameters are those of u, so that one learning rate suits them all.

    Args:
        model: A Pyro model; discrete latents must be marked `infer={"enumerate": "parallel"}`, and are marginalised.
        start: How to find the start: the normal with the best ELBO, or another function in `vbayes.guides.starts`.
        seed: Seed for the search.

    Attributes:
        places: The result of the search; None before the first call.
    """

    words: str = "a normal in whitened coordinates"  # its description
    centre: Tensor
    root: Tensor
    widths: Tensor
    loc: Any
    scale: Any
    _prototype_hide_fn = staticmethod(hidden)
    _form = staticmethod(whole)

    def __init__(self, model: Callable[..., Any], *, start: Start = best_normal, seed: int = 0) -> None:
        super().__init__(model, init_loc_fn=origin)
        self._plain, self._look, self._seed = (
            (model,),
            start,
            seed,
        )  # in a tuple, so that a model that is a module does not become a submodule of the guide
        self.places: Places | None = None
        self._known: Places | None = None

    def placed(self, places: Places) -> Self:
        """Uses a known place instead of searching, and returns itself; for loading a saved guide."""
        self._known = places
        return self

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        began = time.perf_counter()
        with pyro.poutine.block():  # what is recorded or scaled outside is the guide's first run, not its search
            density = None
            if self._known is None:
                density = density_of(
                    self._plain[0], args, kwargs
                )  # which refuses what guides chosen by name can't handle
            super()._setup_prototype(*args, **kwargs)
            if density is not None:
                found = self._look(density, self._form, self._seed)
                self.places = replace(found, seconds=time.perf_counter() - began)
            else:
                self.places = self._known
        assert self.places is not None
        best, like = self.places.best, self._init_loc()
        if best.centre.shape != like.shape:
            raise Unsuitable(
                f"The guide has {len(best.centre)} numbers, but the model has {len(like)}. Wanted: the model that the guide was made for."
            )
        self.register_buffer("centre", best.centre.to(like))
        self.register_buffer("root", best.root.to(like))  # (D, D) lower triangle, or (D,) its diagonal
        # Computed here and not in each step, as there may be no machine code for it.
        self.register_buffer("widths", _widths(best.root).to(like))  # (D,)
        self._start(like)

    def _start(self, like: Tensor) -> None:
        """Creates the parameters.

        Args:
            like: (D,) a tensor with the dtype and device to use.
        """
        raise NotImplementedError

    @property
    def settled(self) -> bool:
        """Whether it is already at the best ELBO, according to the draws of its search."""
        return self.places is not None and self.places.best.settled

    @property
    def search(self) -> Search | None:
        """How it found its start; None before the first call, and if the start was given."""
        if self.places is None or not self.places.how:
            return None
        best = self.places.best
        return Search(self.places.how, best.iterations, self.places.seconds, best.elbo)

    def missed_modes(self) -> tuple[float, ...]:
        """The relative mass of each other mode that the search found and that this guide hardly covers."""
        if self.places is None or not self.places.others:
            return ()
        every = (self.places.best, *self.places.others)
        shares = torch.tensor([place.elbo for place in every], device="cpu").softmax(0).tolist()
        with torch.no_grad():
            q = self.get_posterior()
            here = [float(q.log_prob(place.centre.to(self.centre))) for place in every]
        own = [
            -float(place.root.diagonal().log().sum()) - len(place.centre) / 2 * math.log(2 * math.pi) for place in every
        ]
        return tuple(
            share
            for share, q_at, its in zip(shares, here, own, strict=True)
            if share > SMALL and q_at < its + math.log(share * LITTLE)
        )

    def away(self, place: Place) -> Tensor:
        """(D,) the value of `loc` for which the normal is centred at a place."""
        way = (place.centre.to(self.centre) - self.centre)[:, None]
        root = self.root if self.root.dim() == 2 else self.root.diag()
        return torch.linalg.solve_triangular(root, way, upper=False)[:, 0]

    def _loc_scale(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        posterior = self.get_posterior()
        return posterior.mean, posterior.stddev


def _widths(root: Tensor) -> Tensor:
    """(D,) standard deviation of each number given the others, for the normal with this root."""
    if root.dim() == 1:
        return root
    return torch.cholesky_inverse(root.double()).diagonal().rsqrt()
