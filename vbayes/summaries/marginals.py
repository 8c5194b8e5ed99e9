"""Means, standard deviations and intervals of draws, one row for each element."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = ("site", "element", "mean", "sd", "5%", "95%")


def marginals(
    draws: Mapping[str, np.ndarray], dims: Mapping[str, Sequence[str]], labels: Mapping[str, Sequence[Any]]
) -> pd.DataFrame:
    """Summarises the marginal distribution of each element.

    Args:
        draws: Site → (S, …) values.
        dims: Site → names of its dimensions, if known.
        labels: Dimension → its labels; other dimensions are numbered.

    Returns:
        Columns site, element (`a[Aitkin]`), mean, sd, 5% and 95%: the central 90 % interval.
    """
    rows: list[tuple[Any, ...]] = []
    for site, values in draws.items():
        shape, known = values.shape[1:], tuple(dims.get(site, ()))
        names = known if len(known) == len(shape) else ("",) * len(shape)
        own = [
            labels[name] if name in labels and len(labels[name]) == size else range(size)
            for name, size in zip(names, shape, strict=True)
        ]
        flat = values.reshape(len(values), -1).astype(float)
        low, high = np.quantile(flat, (0.05, 0.95), axis=0)
        for k, place in enumerate(itertools.product(*own)):
            element = f"{site}[{', '.join(map(str, place))}]" if place else site
            rows.append((site, element, flat[:, k].mean(), flat[:, k].std(ddof=1), low[k], high[k]))
    return pd.DataFrame(rows, columns=list(COLUMNS))
