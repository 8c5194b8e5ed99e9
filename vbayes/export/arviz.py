"""Converts arrays to ArviZ's data object, and reads it from disk; the only file that depends on the version of ArviZ.

ArviZ 0.x keeps draws in an `InferenceData`, ArviZ 1.x in an `xarray.DataTree`. Nothing here needs torch.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .. import home
from ..errors import BadInput, OutputUnwritable

SAMPLED = (
    "posterior",
    "posterior_predictive",
    "log_likelihood",
    "sample_stats",
    "prior",
    "prior_predictive",
    "predictions",
)
OBSERVED = ("observed_data", "constant_data", "predictions_constant_data")

Groups = Mapping[str, Mapping[str, np.ndarray]]
Dims = Mapping[str, Sequence[str]]


def arviz() -> ModuleType:
    """ArviZ, imported when it is needed: it takes a second."""
    with home.lent(), warnings.catch_warnings():
        # 0.23 announces at each import that 1.x will come; both are served here.
        warnings.filterwarnings("ignore", "\\s*ArviZ is undergoing a major refactor", FutureWarning)
        import arviz
    return arviz


def _modern() -> bool:
    return int(arviz().__version__.split(".")[0]) >= 1


def from_arrays(
    groups: Groups,
    *,
    dims: Dims | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    attrs: Mapping[str, Any] | None = None,
    ready: Mapping[str, Any] | None = None,
) -> Any:
    """Makes ArviZ's data object from arrays.

    This does not use `from_dict`, which silently drops variables or pads them with NaN if names or lengths clash.

    Args:
        groups: Group → variable → array: (chain, draw, *shape) in sampled groups, (*shape) in observed ones.
        dims: Variable → names of the dimensions in *shape; those not named become `variable_dim_i`.
        coords: Dimension → its labels; 0, 1, 2, ... if not given.
        attrs: Attributes for the whole and for every group: strings, numbers, or lists of them, as netCDF can store.
        ready: Further groups with their own labels, as `xarray.Dataset`s.

    Returns:
        `arviz.InferenceData` on ArviZ 0.x, `xarray.DataTree` on 1.x.

    Raises:
        BadInput: A group is unknown, an array lacks chain and draw, or dimensions or names do not match.
    """
    import xarray as xr

    for name, value in (attrs or {}).items():
        if np.asarray(value).dtype.kind not in "iufU":
            kept = "a string, a number or a list of them, as netCDF can store"
            raise BadInput(f"Attribute {name!r} is {value!r}. Wanted: {kept}. Give e.g. {str(value)!r}.")
    if not any(groups.values()):
        raise BadInput("There are no draws to export. Wanted: at least one group with one variable.")
    attrs = {**(attrs or {}), "created_at": datetime.now(UTC).isoformat()}
    # ArviZ 1.x looks up `sample_dims` there, in plot_prior_posterior for one.
    sampled = attrs | {"sample_dims": ["chain", "draw"]}
    datasets = {
        g: dataset(g, arrays, dims or {}, coords or {}).assign_attrs(sampled if g in SAMPLED else attrs)
        for g, arrays in groups.items()
        if arrays
    }
    for group, made in (ready or {}).items():
        datasets[group] = made.assign_attrs(sampled if group in SAMPLED else attrs)
    if _modern():
        return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **datasets})
    return arviz().InferenceData(attrs=attrs, **datasets)


def dataset(group: str, arrays: Mapping[str, np.ndarray], dims: Dims, coords: Mapping[str, Sequence[Any]]) -> Any:
    """Makes one group, exactly as given, or raises an error."""
    import xarray as xr

    if group not in SAMPLED + OBSERVED:
        raise BadInput(f"{group!r} is not a group of ArviZ. Wanted one of: {', '.join(SAMPLED + OBSERVED)}.")
    lead = ["chain", "draw"] if group in SAMPLED else []
    placed, sizes = {}, dict[str, int]()
    for name, array in ((name, np.asarray(array)) for name, array in arrays.items()):
        has, rank = f"{group}.{name} has shape {array.shape}", array.ndim - len(lead)
        if "/" in name:
            raise BadInput(f"{group}.{name}: in a file, '/' separates groups. Name it {name.replace('/', '.')!r}.")
        if rank < 0 or 0 in array.shape[: len(lead)]:
            raise BadInput(f"{has}. Wanted: (chain, draw, *shape) with at least one draw. Add the axes, x[None, None].")
        # A log-likelihood has lost the event dimensions of its variable.
        named = list(dims.get(name, ()))[: rank if group == "log_likelihood" else None]
        axes = [*lead, *named, *(f"{name}_dim_{i}" for i in range(len(named), rank))]
        if len(named) > rank or len(set(axes)) < len(axes):
            raise BadInput(f"{has}, but dims gives {named}. Wanted: {rank} different names, none of them in {lead}.")
        for dim, size in zip(axes, array.shape, strict=True):
            if sizes.setdefault(dim, size) != size:
                raise BadInput(f"{has}, but {dim!r} is {sizes[dim]} long elsewhere. Wanted: one length, or two names.")
        placed[name] = (axes, array)
    for name in sorted(placed.keys() & sizes.keys()):
        wanted = f"two names. Rename the variable, or the dimension, e.g. {name + '_plate'!r}"
        raise BadInput(f"{name!r} is both a variable and a dimension in {group}. Wanted: {wanted}.")
    labels = {dim: coords.get(dim, range(size)) for dim, size in sizes.items()}
    for dim, size in sizes.items():
        if len(labels[dim]) != size:
            raise BadInput(f"{dim!r} is {size} long in {group}, coords gives {len(labels[dim])} labels. Give {size}.")
    return xr.Dataset(placed, labels)


def to_netcdf(data: Any, path: str | Path) -> Path:
    """Writes ArviZ's data object as netCDF 4, completely or not at all.

    Raises:
        OutputUnwritable: The file can't be written; an older one is left as it was.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    try:
        data.to_netcdf(str(unfinished), engine="h5netcdf")
        os.replace(unfinished, path)
    except OSError as error:
        raise OutputUnwritable(f"Can't write {path}: {error}. Choose an existing, writable folder.") from error
    finally:
        with suppress(OSError):  # renamed by now, or never made
            unfinished.unlink()
    return path


def from_netcdf(path: str | Path) -> Any:
    """Reads a file written with either version of ArviZ into memory, and closes it.

    Raises:
        BadInput: The file does not exist, or is not netCDF.
    """
    try:
        found = arviz().from_netcdf(str(path), engine="h5netcdf")
        if not _modern():
            return found.load()
        with found:
            return found.load()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is not a netCDF file of draws: {error}") from error


@dataclass(frozen=True)
class Loo:
    """Leave-one-out (LOO) predictive density, estimated from draws of q.

    Attributes:
        elpd: Σ log p(x_i | the other data), nats.
        se: Its standard error over the data, nats.
        pareto_k: Pareto k̂ of each datum; above 0.7 its term can't be trusted.
    """

    elpd: float
    se: float
    pareto_k: np.ndarray


def psis(log_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pareto-smoothed importance weights.

    Args:
        log_w: (..., S) log weights; higher is heavier.

    Returns:
        (..., S) smoothed, normalised log weights, and (...) the Pareto k̂ of each row; infinite where no tail can be
        fitted (S < 25, or weights that are all alike), whose weights are normalised only.

    References:
        Vehtari, Simpson, Gelman, Yao & Gabry 2015, Pareto smoothed importance sampling, arXiv:1507.02646.
    """
    log_w = np.asarray(log_w, dtype=float)
    smoothed, k = zip(*map(_smooth, log_w.reshape(-1, log_w.shape[-1])), strict=True)
    return np.reshape(smoothed, log_w.shape), np.reshape(k, log_w.shape[:-1])


@np.errstate(over="ignore")  # of the ends of a tail that is too heavy, which are infinite then
def _smooth(log_w: np.ndarray) -> tuple[np.ndarray, float]:
    try:
        if log_w.size < 25:
            raise ValueError("a fifth of the draws is the tail, and ArviZ 1.x fits no fewer than five")
        # Numbers that differ only by rounding, each off by an eps or two, have no tail either.
        if np.ptp(log_w) <= 4 * np.finfo(float).eps * np.abs(log_w).max():
            raise ValueError("weights that are all alike")
        if _modern():
            from arviz_stats.base import array_stats

            # It takes log-likelihoods to leave out, and so minus the log weights. The wrong sign would look perfect.
            smoothed, k = array_stats.psislw(-log_w)
        else:
            smoothed, k = arviz().psislw(log_w)
    except ValueError:
        return log_w - np.logaddexp.reduce(log_w), np.inf
    return smoothed, np.inf if np.isnan(k) else float(k)


def loo(data: Any, variable: str | None = None) -> Loo:
    """Computes LOO, weighting the draws of q by p/q, from the `log_likelihood` and `sample_stats` of a fit.

    Args:
        data: ArviZ's data object, with log_p and log_q in `sample_stats`.
        variable: Variable of `log_likelihood`; may be None if there is only one.

    Raises:
        BadInput: A group or variable is missing, or `variable` is ambiguous.

    References:
        Magnusson, Andersen, Jonasson & Vehtari 2019, Bayesian leave-one-out cross-validation for large data,
        arXiv:1904.10679, eq. 7.
    """
    there = {name: list(data[name].data_vars) if name in data else [] for name in ("log_likelihood", "sample_stats")}
    chosen = [v for v in there["log_likelihood"] if variable in (None, v)]
    if len(chosen) != 1 or not {"log_p", "log_q"} <= {*there["sample_stats"]}:
        wanted = "one variable of log_likelihood (choose it by variable=...), and log_p and log_q in sample_stats"
        raise BadInput(f"LOO of {variable or 'the only variable'} can't be computed from {there}. Wanted: {wanted}.")
    values, stats = data["log_likelihood"][chosen[0]].values, data["sample_stats"]
    if values.shape[:2] != stats["log_p"].shape:
        raise BadInput(f"log_likelihood has {values.shape[:2]} draws, log_p {stats['log_p'].shape}. Wanted: the same.")
    draws = values.shape[0] * values.shape[1]
    ll = values.reshape(draws, -1).T.astype(float)
    log_w = (stats["log_p"].values - stats["log_q"].values).reshape(draws)
    smoothed, k = psis(log_w - ll)
    terms = np.logaddexp.reduce(smoothed + ll, axis=1)
    return Loo(float(terms.sum()), float((terms.size * terms.var()) ** 0.5), k)
