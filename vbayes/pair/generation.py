"""Models that generate their data instead of observing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
from pyro.poutine.messenger import Messenger

from .sites import kind


def forgetful(model: Callable[..., Any]) -> Callable[..., Any]:
    """A model that draws its data, but no other observed site: Pyro's `uncondition` also redraws `pyro.deterministic`, with another shape."""
    return _Forget()(model)  # type: ignore[no-any-return]


def drawn_from(model: Callable[..., Any]) -> Callable[..., None]:
    """A guide that draws a model's latents from their prior."""

    def prior(*args: Any) -> None:
        with pyro.poutine.block(hide_fn=lambda msg: msg["type"] == "sample" and msg["is_observed"]):
            model(*args)

    return prior


class _Forget(Messenger):
    def _pyro_sample(self, msg: Any) -> None:
        if kind(msg) == "data":
            msg["infer"] = {**msg["infer"], "was_observed": True, "obs": msg["value"]}
            msg["is_observed"], msg["value"], msg["done"] = False, None, False
