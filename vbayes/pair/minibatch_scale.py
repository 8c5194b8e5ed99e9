"""Scales a minibatch of M rows to represent all N."""

from __future__ import annotations

from typing import Any

from pyro.poutine.messenger import Messenger

DATA_PLATE = "data"


class MinibatchScale(Messenger):
    """Multiplies the scale of sites in an unscaled plate `"data"` of size M by N/M."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total = total

    def _pyro_sample(self, msg: Any) -> None:
        for frame in msg["cond_indep_stack"]:
            # A plate that was told its full size (`size=` with a subsample) has scaled its sites already.
            if frame.name == DATA_PLATE and frame.full_size in (None, frame.size) and frame.size < self.total:
                msg["scale"] = msg["scale"] * (self.total / frame.size)
