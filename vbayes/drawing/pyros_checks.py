"""The checks of a draw that Pyro's own ELBOs make if validation is on."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.poutine import Trace
from pyro.util import check_model_guide_match, check_site_shape
from torch import Tensor

from ..errors import BadInput, warn
from ..pair.sites import sites


def check_as_pyro(q: Trace, p: Trace) -> None:
    """Raises the errors and warnings of `pyro.infer.Trace_ELBO`: for sites that do not match, and dimensions outside of plates.

    Raises:
        ValueError: As Pyro's.
        BadInput: An observation is not a tensor.
    """
    for site in sites(p) + sites(q):
        _check_value(site)
    if marked := [site["name"] for site in sites(q) if site["infer"].get("enumerate")]:
        warn(
            f"The guide marks {', '.join(map(repr, marked))} for enumeration, but this estimator does not enumerate; it draws them. "
            "Use vb.Enumerated(), or remove the mark."
        )
    check_model_guide_match(p, q)
    for site in sites(p) + sites(q):
        if (shape := shape_of_log_prob(site)) is not None:
            check_site_shape({**site, "log_prob": torch.empty(shape, device="meta")}, math.inf)  # type: ignore[arg-type]


def _check_value(site: Any) -> None:
    value = site["value"]
    if isinstance(value, (int, float)):
        try:
            site["fn"].log_prob(value)
        except (ValueError, AttributeError, TypeError) as error:
            raise BadInput(
                f"Site {site['name']!r} is observed at {value}, a {type(value).__name__}. Wanted: a tensor, such as "
                f"obs=torch.tensor({float(value)})."
            ) from error


def shape_of_log_prob(site: Any) -> torch.Size | None:
    """The shape of a site's log-density, masked and scaled; None if computing it raises an error of its own."""
    value, fn = site["value"], site["fn"]
    if not isinstance(value, Tensor):
        return None
    shapes = [fn.batch_shape, value.shape[: value.dim() - fn.event_dim]]
    shapes += [site[part].shape for part in ("mask", "scale") if isinstance(site[part], Tensor)]
    try:
        return torch.broadcast_shapes(*shapes)
    except RuntimeError:
        return None
