"""A model that makes its data instead of looking at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro.poutine.messenger import Messenger

from .sites import kind


def forgetful(model: Callable[..., Any]) -> Callable[..., Any]:
    """A model that draws its data and nothing else that is observed: Pyro's `uncondition` redraws `pyro.deterministic` as well, in another shape."""
    return _Forget()(model)  # type: ignore[no-any-return]


class _Forget(Messenger):
    def _pyro_sample(self, msg: Any) -> None:
        if kind(msg) == "data":
            msg["infer"] = {**msg["infer"], "was_observed": True, "obs": msg["value"]}
            msg["is_observed"], msg["value"], msg["done"] = False, None, False
