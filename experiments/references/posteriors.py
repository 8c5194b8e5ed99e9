"""The reference posteriors: for each its data columns, its model, and the mapping between its sites and the reference's parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import files, models
from .languages import Language

Columns = dict[str, np.ndarray]
Draws = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Posterior:
    """A posterior with known reference draws.

    Attributes:
        name: Name in posteriordb.
        from_file: Converts the contents of the data file to columns named after the model's arguments.
        formula: Makes the model in a language.
        derived: Computes, from draws of the model's sites, the reference's parameters that are functions of them.
        inverse: Computes, from the reference's parameters, the model's sites that are not among them.
    """

    name: str
    from_file: Callable[[Mapping[str, Any]], Columns]
    formula: Callable[[Language], models.Model]
    derived: Callable[[Draws], dict[str, np.ndarray]] = lambda sites: {}
    inverse: Callable[[Draws], dict[str, np.ndarray]] = lambda reference: {}

    @property
    def data(self) -> Columns:
        """The data columns in float64, one row per datum."""
        found = self.from_file(files.data(self.name.partition("-")[0]))
        return {name: np.asarray(column, float) for name, column in found.items()}

    @property
    def reference(self) -> dict[str, np.ndarray]:
        """Reference draws by parameter, (10, 1000)."""
        return files.draws(self.name)

    def parameters(self, sites: Draws, reference: Draws) -> dict[str, np.ndarray]:
        """Converts (S, …) draws of the model's sites to (S,) draws by parameter; entries of vectors count from 1.

        Args:
            sites: Draws of the model's sites; those that the reference doesn't have are left out.
            reference: Reference draws, which determine the parameters.
        """
        found: dict[str, np.ndarray] = {}
        for name, values in {**sites, **self.derived(sites)}.items():
            values = np.asarray(values)
            if values.ndim == 1:
                found[name] = values
            else:
                found |= {f"{name}[{i + 1}]": values[:, i] for i in range(values.shape[1])}
        return {name: found[name] for name in reference}

    def sites(self, reference: Draws) -> dict[str, np.ndarray]:
        """Converts reference draws to (S, …) draws of the model's sites."""
        found: dict[str, list[np.ndarray]] = {}
        for name, values in reference.items():
            found.setdefault(name.partition("[")[0], []).append(np.asarray(values).reshape(-1))
        whole = {
            name: np.stack(entries, 1) if f"{name}[1]" in reference else entries[0] for name, entries in found.items()
        }
        return {**whole, **self.inverse(whole)}


def _design(y: str, *terms: Callable[[Mapping[str, Any]], Any]) -> Callable[[Mapping[str, Any]], Columns]:
    """Makes the columns X (ones and the given terms) and y."""

    def columns(file: Mapping[str, Any]) -> Columns:
        file = {name: np.asarray(values, float) for name, values in file.items()}
        outcome = file[y]
        return {"X": np.stack([np.ones_like(outcome), *(term(file) for term in terms)], 1), "y": outcome}

    return columns


def _column(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda file: file[name]


def _lagged(file: Mapping[str, Any]) -> Columns:
    y, order = np.asarray(file["y"], float), file["K"]
    return {"lagged": np.stack([y[order - k : len(y) - k] for k in range(1, order + 1)], 1), "y": y[order:]}


def _log_earnings(file: Mapping[str, Any]) -> Columns:
    terms = _column("height"), _column("male"), lambda f: f["height"] * f["male"]
    found = _design("earn", *terms)(file)
    return {**found, "y": np.log(found["y"])}


def _centred(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda file: file[name] - file[name].mean()


def _centred_diamonds(file: Mapping[str, Any]) -> Columns:
    X = np.asarray(file["X"], float)[:, 1:]
    return {"X": X - X.mean(0), "y": np.asarray(file["Y"], float)}


MESQUITE = ("diam1", "diam2", "canopy_height", "total_height", "density", "group")
POSTERIORS = {
    posterior.name: posterior
    for posterior in (
        Posterior("arK-arK", _lagged, models.autoregression),
        Posterior("diamonds-diamonds", _centred_diamonds, models.diamonds),
        Posterior("earnings-earn_height", _design("earn", _column("height")), models.flat_regression),
        Posterior("earnings-logearn_interaction", _log_earnings, models.flat_regression),
        Posterior(
            "eight_schools-eight_schools_noncentered",
            lambda file: {"y": file["y"], "s": file["sigma"]},
            models.eight_schools,
            derived=lambda z: {"theta": z["mu"][:, None] + z["tau"][:, None] * z["t"]},
            inverse=lambda z: {"t": (z["theta"] - z["mu"][:, None]) / z["tau"][:, None]},
        ),
        Posterior("gp_pois_regr-gp_regr", lambda file: {k: file[k] for k in ("x", "y")}, models.gaussian_process),
        Posterior("hmm_example-hmm_example", lambda file: {"y": file["y"]}, models.hidden_markov),
        Posterior(
            "kidiq-kidscore_interaction",
            _design("kid_score", _column("mom_hs"), _column("mom_iq"), lambda f: f["mom_hs"] * f["mom_iq"]),
            models.half_cauchy_regression,
        ),
        Posterior(
            "kidiq_with_mom_work-kidscore_interaction_c",
            _design(
                "kid_score",
                _centred("mom_hs"),
                _centred("mom_iq"),
                lambda f: _centred("mom_hs")(f) * _centred("mom_iq")(f),
            ),
            models.flat_regression,
        ),
        Posterior("mesquite-mesquite", _design("weight", *map(_column, MESQUITE)), models.flat_regression),
        Posterior("sblrc-blr", lambda file: {"X": file["X"], "y": file["y"]}, models.normal_regression),
    )
}
