"""Partly known latents: the model draws the unknown part, given the known one."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..errors import Unsuitable
from ..pair.sites import plates

Axis = str | tuple[str, int]
"""A plate, or a site and a dimension of its event, counted from the end."""


class Known(Messenger):
    """Uses known values for latents, row by row of their plates; unknown rows are drawn from the model, given everything before them.

    Row i of a plate gets row i of the values, whatever the two sizes: rows beyond the values are drawn, and values beyond the plate are ignored.

    Args:
        values: Site → value, for any sizes of its plates.
        anew: Rows that are drawn although there are values for them.
    """

    def __init__(self, values: Mapping[str, Tensor], anew: Mapping[Axis, Set[int]] | None = None) -> None:
        super().__init__()
        self.values, self.anew = values, anew or {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name not in self.values or msg["is_observed"]:
            return
        value, fresh = self._rows(msg)
        if fresh is not None:
            value = torch.where(fresh, self._draw(msg), value)
        msg["value"], msg["done"] = value, True

    def _draw(self, msg: Any) -> Tensor:
        try:
            return msg["fn"].sample()  # type: ignore[no-any-return]
        except NotImplementedError as error:
            raise Unsuitable(
                f"New rows of {msg['name']!r} can't be drawn: its {type(msg['fn']).__name__} can't be sampled. Wanted: a proper prior."
            ) from error

    def _rows(self, msg: Any) -> tuple[Tensor, Tensor | None]:
        """The value in the model's current shape, and a mask (*shape) of its unknown entries, None if all are known."""
        name, fn = msg["name"], msg["fn"]
        value, shape = self.values[name], fn.batch_shape + fn.event_shape
        value = value.reshape((1,) * (len(shape) - value.dim()) + tuple(value.shape))
        fresh: Tensor | None = None
        anew = {frame.dim - fn.event_dim: self.anew.get(frame.name, ()) for frame in plates(msg)}
        anew |= {axis[1]: rows for axis, rows in self.anew.items() if isinstance(axis, tuple) and axis[0] == name}
        for dim, rows in anew.items():
            had, has = value.shape[dim], shape[dim]
            unknown = [row for row in range(has) if row >= had or row in rows] if rows or had < has else []
            if had != has:
                index = torch.arange(has, device=value.device).clamp(max=had - 1)
                value = value.index_select(value.dim() + dim, index)
            if unknown:
                here = torch.zeros(has, dtype=torch.bool, device=value.device)
                here[unknown] = True
                here = here.reshape(-1, *[1] * (-1 - dim))
                fresh = here if fresh is None else fresh | here
        if tuple(value.shape) != tuple(shape):
            raise Unsuitable(
                f"Latent {name!r} has shape {tuple(shape)} for the new rows and {tuple(self.values[name].shape)} for those of the fit, but is not in a plate that grows. Wanted: latents that grow "
                "with rows or groups inside a pyro.plate."
            )
        return value, fresh


class Tiled(Messenger):
    """Uses values for latents that are repeated or cut off to the required shape, for inspecting a model without drawing."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        value = self.values.get(msg["name"])
        if value is None or msg["is_observed"] or not value.numel():
            return
        for dim, size in enumerate(reversed(msg["fn"].batch_shape + msg["fn"].event_shape)):
            if dim < value.dim() and value.shape[-1 - dim] != size:
                index = torch.arange(size, device=value.device) % value.shape[-1 - dim]
                value = value.index_select(value.dim() - 1 - dim, index)
        msg["value"], msg["done"] = value, True
