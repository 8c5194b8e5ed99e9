"""Log-likelihoods of observed values only: gaps are not data, and must not be counted, for example by LOO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ROUNDING = 1e-5  # nats; rounding error of a log-density of 0 with marginalised latents


def observed_alone(
    arrays: Mapping[str, np.ndarray],
    counted: Mapping[str, np.ndarray],
    dims: Mapping[str, Sequence[str]],
    labels: Mapping[str, Sequence[Any]],
) -> tuple[dict[str, np.ndarray], dict[str, Sequence[str]], dict[str, Sequence[Any]]]:
    """The arrays without masked entries, with names and labels of their dimensions. A variable with one dimension keeps it, provided that others along it have the same gaps; otherwise all of its
    dimensions are merged into one, `name_observed`, whose labels identify the entries.

    Args:
        arrays: Variable → (chain, draw, *shape).
        counted: Variable → where it was observed, for masked variables.
        dims: Variable → names of the dimensions in *shape, possibly for further variables.
        labels: Dimension → its labels; 0, 1, ... if not given.
    """
    found, names, coords = dict(arrays), dict(dims), dict(labels)
    there = {name: _there(values, counted.get(name)) for name, values in arrays.items()}
    axes = {name: _axes(name, where.ndim, dims) for name, where in there.items()}
    for name, where in there.items():
        if where.all():
            continue
        if not where.any():
            del found[name]
            continue
        own = axes[name]
        beside = [other for other in there if set(axes[other]) & set(own)]
        keeps = all(axes[other] == own[:1] and np.array_equal(there[other], where) for other in beside)
        dim = own[0] if keeps else f"{name}_observed"
        places = np.nonzero(where)
        along = [
            [labels[d][i] if d in labels else i for i in each.tolist()] for d, each in zip(own, places, strict=True)
        ]
        found[name] = arrays[name][:, :, where]
        names[name] = [dim]
        coords[dim] = along[0] if len(own) == 1 else [", ".join(map(str, each)) for each in zip(*along, strict=True)]
    return found, names, coords


def _there(values: np.ndarray, counted: np.ndarray | None) -> np.ndarray:
    shape = values.shape[2:]
    if counted is None:
        return np.ones(shape, dtype=bool)
    return np.broadcast_to(counted, shape) | (np.abs(values) > ROUNDING).any((0, 1))  # a mask may differ between draws


def _axes(name: str, rank: int, dims: Mapping[str, Sequence[str]]) -> list[str]:
    own = list(dims.get(name, ()))[:rank]
    return [*own, *(f"{name}_dim_{i}" for i in range(len(own), rank))]
