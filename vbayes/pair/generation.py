"""Models that generate their data instead of observing them, and guides without a model's observations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pyro
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.messenger import Messenger

from .sites import kind


def forgetful(model: Callable[..., Any]) -> Callable[..., Any]:
    """A model that draws its data, but no other observed site: Pyro's `uncondition` also redraws `pyro.deterministic`, with another shape."""
    return _Forget()(model)  # type: ignore[no-any-return]


def drawn_from(model: Callable[..., Any]) -> Callable[..., None]:
    """A guide that draws a model's latents from their prior."""

    def prior(*args: Any) -> None:
        with pyro.poutine.block(hide_fn=_observed):
            model(*args)

    return prior


def unobserving(guide: Callable[..., Any]) -> Callable[..., Any]:
    """A guide. Pyro's `AutoNormalMessenger` and the like run the model with its observations, which are hidden, as Pyro's own ELBOs hide them."""
    if isinstance(pyro.poutine.unwrap(guide), GuideMessenger):
        return functools.partial(_without_observations, guide)  # Pyro's own wrapper can't be pickled
    return guide


def _without_observations(guide: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with pyro.poutine.block(hide_fn=_observed):
        return guide(*args, **kwargs)


def _observed(msg: Any) -> bool:
    return bool(msg["type"] == "sample" and msg["is_observed"])


class _Forget(Messenger):
    def _pyro_sample(self, msg: Any) -> None:
        if kind(msg) == "data":
            msg["infer"] = {**msg["infer"], "was_observed": True, "obs": msg["value"]}
            msg["is_observed"], msg["value"], msg["done"] = False, None, False
