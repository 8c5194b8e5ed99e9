"""Where weighting changes the draws of a guide: which latents are misplaced, too narrow or too wide."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..inference.draws import Draws
from ..inference.psis import Smoothed

COLUMNS = ("site", "element", "moved", "sd_ratio", "se")
ASIDE = 0.08  # tolerated error of a mean in sds, and relative error of an sd: a tenth is too much, and this leaves room for noise
SURE = 2.0  # standard errors


def moved(made: Draws, weights: Smoothed) -> pd.DataFrame:
    """Measures how far weighting moves each element of the latents, largest move first.

    Args:
        made: Draws of the guide.
        weights: Smoothed weights of those draws.

    Returns:
        A table with site; element, its index in the site's value, as text; moved, by how many sds of q the weights move its mean; sd_ratio, its weighted sd in sds of q; and se, the standard
        error of the move. Equal weights move nothing. Discrete latents are left out.
    """
    found = []
    for name, values in made.values.items():
        if not values.is_floating_point():
            continue
        values = values.double()
        weight = made.spread(name, weights.log_w.exp())
        sd = values.std(0)
        mean = (weight * values).sum(0)
        weighted = (weight * (values - mean).square()).sum(0).clamp(min=0.0).sqrt()
        noise = (1 / weights.effective.clamp(min=1.0) - 1 / len(made)).clamp(min=0.0).sqrt()
        se = made.spread(name, noise[None])[0]
        fixed = sd == 0
        shift = torch.where(fixed, 0.0, (mean - values.mean(0)) / sd)
        ratio = torch.where(fixed, 1.0, weighted / sd)
        found.append(_rows(name, shift, ratio, se.expand(shift.shape)))
    if not found:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat(found, ignore_index=True)
    order = np.argsort(-table.moved.abs().to_numpy(), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def aside(table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose mean or sd changes by more than `ASIDE` times the narrower sd, beyond the noise of the weights."""
    narrower = np.minimum(1.0, table.sd_ratio)
    room = ASIDE + SURE * table.se
    return table[(table.moved.abs() > room * narrower) | ((table.sd_ratio - 1).abs() > room)]


def _rows(name: str, shift: Tensor, ratio: Tensor, se: Tensor) -> pd.DataFrame:
    places = [", ".join(map(str, place)) for place in np.ndindex(shift.shape)]
    numbers = (one.reshape(-1).cpu().numpy() for one in (shift, ratio, se))
    return pd.DataFrame(dict(zip(COLUMNS, (name, places, *numbers), strict=True)))
