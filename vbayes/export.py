"""Arrays to ArviZ's own object, and back from disk: the only file that knows ArviZ's versions.

ArviZ 0.x keeps draws in an `InferenceData`, ArviZ 1.x in an `xarray.DataTree`. Nothing here needs torch.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .errors import BadInput, OutputUnwritable

SAMPLED = ("posterior", "posterior_predictive", "log_likelihood", "sample_stats", "prior", "prior_predictive")
OBSERVED = ("observed_data", "constant_data")

Groups = Mapping[str, Mapping[str, np.ndarray]]
Dims = Mapping[str, Sequence[str]]


def arviz() -> ModuleType:
    """ArviZ, imported when it is needed: it takes a second."""
    with warnings.catch_warnings():
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
) -> Any:
    """ArviZ's object from arrays.

    Args:
        groups: Group → variable → array: (chain, draw, *shape) in sampled groups, (*shape) in observed ones.
        dims: Variable → names of the dimensions in *shape; those not named become `variable_dim_i`.
        coords: Dimension → its labels.
        attrs: For every group.

    Returns:
        `arviz.InferenceData` on ArviZ 0.x, `xarray.DataTree` on 1.x.

    Raises:
        BadInput: An unknown group, an array without chain and draw, dimensions that do not fit.
    """
    dims = {k: list(v) for k, v in (dims or {}).items()}
    groups = {g: {k: np.asarray(v) for k, v in variables.items()} for g, variables in groups.items() if variables}
    _validate(groups, dims)
    options: dict[str, Any] = {"dims": dims, "coords": dict(coords or {})}
    with warnings.catch_warnings():
        # "More chains than draws": meant for swapped axes, which were checked above; a guide may be drawn from once.
        warnings.filterwarnings("ignore", "More chains", UserWarning)
        if _modern():
            tree = arviz().from_dict({g: dict(v) for g, v in groups.items()}, **options)
            for name in groups:
                tree[name].attrs.update(attrs or {})
            return tree
        data = arviz().from_dict(**{g: dict(v) for g, v in groups.items()}, **options)
    for name in groups:
        data[name].attrs.update(attrs or {})
    return data


def _validate(groups: Groups, dims: Dims) -> None:
    if not groups:
        raise BadInput("No draws to export. Wanted: at least one group with one variable.")
    for group, variables in groups.items():
        if group not in SAMPLED + OBSERVED:
            raise BadInput(f"{group!r} is not a group of ArviZ's. Wanted one of: {', '.join(SAMPLED + OBSERVED)}.")
        lead = 2 if group in SAMPLED else 0
        for name, array in variables.items():
            if array.ndim < lead:
                raise BadInput(f"{group}.{name} has shape {array.shape}. Wanted: (chain, draw, *shape).")
            named = dims.get(name)
            # A log-likelihood has lost the event dimensions of its variable.
            if named is not None and (len(named) > array.ndim - lead and group != "log_likelihood"):
                raise BadInput(
                    f"{group}.{name} has shape {array.shape}, {array.ndim - lead} dimensions to name, but dims gives "
                    f"{len(named)}: {list(named)}."
                )
            if named and name in named:
                raise BadInput(
                    f"Variable {name!r} can't be its own dimension. Rename that dimension, e.g. {name + '_plate'!r}."
                )


def to_netcdf(data: Any, path: str | Path) -> Path:
    """Writes ArviZ's object as netCDF 4, all of it or nothing.

    Raises:
        OutputUnwritable: The file can't be written; an older one is still there.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    try:
        data.to_netcdf(str(unfinished), engine="h5netcdf")
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise OutputUnwritable(f"Can't write {path}: {error}. Choose a folder that exists and is yours.") from error
    return path


def from_netcdf(path: str | Path) -> Any:
    """Reads what either version wrote.

    Raises:
        BadInput: No such file, or not netCDF.
    """
    try:
        if _modern():
            return arviz().from_netcdf(str(path), engine="h5netcdf")
        return arviz().from_netcdf(str(path), engine="h5netcdf").load()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no netCDF file of draws: {error}") from error


@dataclass(frozen=True)
class Loo:
    """Leave-one-out predictive density of draws from q.

    Attributes:
        elpd: Σ log p(x_i | the other data), nats.
        pareto_k: Per datum; above 0.7 its term can't be trusted.
    """

    elpd: float
    pareto_k: np.ndarray


def psis(log_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pareto-smoothed importance weights.

    Args:
        log_w: (..., S) log weights; higher is heavier.

    Returns:
        (..., S) smoothed, normalised log weights, and the Pareto k̂ of each row.

    References:
        Vehtari, Simpson, Gelman, Yao & Gabry 2015, Pareto smoothed importance sampling, arXiv:1507.02646.
    """
    if _modern():
        from arviz_stats.base import array_stats

        # It takes log-likelihoods to leave out, and so minus the log weights. The wrong sign would look perfect.
        smoothed, k = array_stats.psislw(-log_w)
    else:
        smoothed, k = arviz().psislw(log_w)
    return np.asarray(smoothed), np.asarray(k)


def loo(data: Any, variable: str | None = None) -> Loo:
    """LOO that weighs the draws of q by p/q, from the `log_likelihood` and `sample_stats` of a fit.

    Args:
        data: What `from_arrays` returned, with log_p and log_q in `sample_stats`.
        variable: Of `log_likelihood`; its first if None.

    References:
        Magnusson, Andersen, Jonasson & Vehtari 2019, Bayesian leave-one-out cross-validation for large data,
        arXiv:1904.10679, eq. 7.
    """
    group = data["log_likelihood"]
    values = group[variable or next(iter(group.data_vars))].values
    draws = values.shape[0] * values.shape[1]
    ll = values.reshape(draws, -1).T
    stats = data["sample_stats"]
    log_w = (stats["log_p"].values - stats["log_q"].values).reshape(draws)
    smoothed, k = psis(np.ascontiguousarray(log_w - ll))
    terms = np.logaddexp.reduce(smoothed - np.logaddexp.reduce(smoothed, axis=1, keepdims=True) + ll, axis=1)
    return Loo(float(terms.sum()), k)
