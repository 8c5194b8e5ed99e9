"""Arrays to ArviZ's object. Needs neither torch nor Pyro, so that it runs beside either version of ArviZ."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from vbayes import export
from vbayes.errors import BadInput, OutputUnwritable

matplotlib.use("Agg")

N, S = 8, 4000
PLACE = {"y": ["school"], "theta": ["school"]}


def groups() -> dict[str, dict[str, np.ndarray]]:
    """Conjugate: theta ~ N(0, 1), y ~ N(theta, 1), drawn from q(theta) = N(y/2, 0.75²), a little too wide."""
    rng = np.random.default_rng(0)
    y = np.linspace(-1.0, 1.0, N)
    theta = y / 2 + 0.75 * rng.normal(size=(1, S, N))

    def log_normal(x, mean, sd):
        return -0.5 * np.log(2 * np.pi * sd**2) - 0.5 * ((x - mean) / sd) ** 2

    likelihood = log_normal(y, theta, 1.0)
    return {
        "posterior": {"theta": theta},
        "prior": {"theta": rng.normal(size=(1, S, N))},
        "posterior_predictive": {"y": theta + rng.normal(size=theta.shape)},
        "log_likelihood": {"y": likelihood},
        "observed_data": {"y": y},
        "sample_stats": {
            "log_p": (likelihood + log_normal(theta, 0.0, 1.0)).sum(-1),
            "log_q": log_normal(theta, y / 2, 0.75).sum(-1),
        },
    }


@pytest.fixture(scope="module")
def data():
    return export.from_arrays(groups(), dims=PLACE, coords={"school": list("ABCDEFGH")}, attrs={"pair": "toy"})


def test_it_is_arviz_own_object(data):
    modern = int(export.arviz().__version__.split(".")[0]) >= 1
    assert type(data).__name__ == ("DataTree" if modern else "InferenceData")


def test_values_dims_coords_attributes(data):
    for group, variables in groups().items():
        for name, array in variables.items():
            stored = data[group][name]
            np.testing.assert_array_equal(stored.values, array)
            lead = () if group == "observed_data" else ("chain", "draw")
            assert stored.dims == (*lead, *(PLACE.get(name, ())))
        assert data[group].attrs["pair"] == "toy"
    assert data["posterior"]["theta"].sel(school="C").shape == (1, S)


def test_summary_loo_and_a_picture(data):
    az = export.arviz()
    summary = az.summary(data, kind="stats")
    means = summary["mean"].astype(float).to_numpy()
    np.testing.assert_allclose(means, np.linspace(-0.5, 0.5, N), atol=4 * 0.75 / S**0.5 + 0.005)
    assert summary.index[0] == "theta[A]"
    assert np.isfinite(az.loo(data).elpd_loo if hasattr(az.loo(data), "elpd_loo") else az.loo(data).elpd)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its plots warn of is ArviZ's affair
        assert (az.plot_posterior if hasattr(az, "plot_posterior") else az.plot_dist)(data) is not None


def test_loo_corrects_for_q(data):
    """Leaving datum i out of this model leaves y_i ~ N(0, 2): known, and missed without the weights."""
    y = groups()["observed_data"]["y"]
    exact = (-0.5 * np.log(2 * np.pi * 2) - y**2 / 4).sum()
    found = export.loo(data)
    assert found.elpd == pytest.approx(exact, abs=0.15)
    assert found.pareto_k.shape == (N,) and (found.pareto_k < 0.7).all()
    flat = groups()
    flat["sample_stats"]["log_p"] = flat["sample_stats"]["log_q"]
    assert abs(export.loo(export.from_arrays(flat)).elpd - exact) > abs(found.elpd - exact)


def test_psis_has_the_right_sign():
    """exp(Exponential(rate a)) is Pareto with tail index 1/a; with the wrong sign k̂ would be far below."""
    draws = np.random.default_rng(1).exponential(size=(1, 50_000))
    for k in (0.3, 0.6):
        assert float(export.psis(k * draws)[1][0]) == pytest.approx(k, abs=0.08)
    assert float(export.psis(-0.6 * draws)[1][0]) < 0.0
    smoothed, _ = export.psis(0.3 * draws)
    assert np.logaddexp.reduce(smoothed, axis=-1) == pytest.approx(0.0, abs=1e-8)
    assert np.corrcoef(smoothed[0], draws[0])[0, 1] > 0.9


def same(a, b) -> bool:
    return all(
        np.array_equal(a[g][v].values, b[g][v].values) and a[g][v].dims == b[g][v].dims
        for g, vs in groups().items()
        for v in vs
    )


def test_round_trip(data, tmp_path):
    path = export.to_netcdf(data, tmp_path / "posterior.nc")
    again = export.from_netcdf(path)
    assert same(data, again) and again["posterior"].attrs["pair"] == "toy"
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.nc"]


@pytest.mark.skipif(
    "VBAYES_EXCHANGE" not in os.environ, reason="run by test_export_arviz1.py, with the other ArviZ's file"
)
def test_exchange_with_the_other_version(data):
    folder = Path(os.environ["VBAYES_EXCHANGE"])
    assert same(data, export.from_netcdf(folder / "theirs.nc"))
    export.to_netcdf(data, folder / "ours.nc")


BAD = {
    "nothing": ({}, None, "No draws"),
    "unknown group": ({"posteriors": {"a": np.zeros((1, 2))}}, None, "'posteriors' is not a group"),
    "no draws": ({"posterior": {"a": np.zeros(3)}}, None, "(chain, draw, *shape)"),
    "too many dims": ({"posterior": {"a": np.zeros((1, 3))}}, {"a": ["x"]}, "dims gives 1"),
    "own dimension": ({"posterior": {"a": np.zeros((1, 3, 2))}}, {"a": ["a"]}, "'a_plate'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    bad, dims, message = BAD[case]
    with pytest.raises(BadInput) as caught:
        export.from_arrays(bad, dims=dims)
    assert message in str(caught.value)


def test_bad_files(data, tmp_path):
    with pytest.raises(BadInput, match="no netCDF file"):
        export.from_netcdf(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("no draws here")
    with pytest.raises(BadInput, match="no netCDF file"):
        export.from_netcdf(tmp_path / "text.nc")
    with pytest.raises(OutputUnwritable, match="Choose a folder"):
        export.to_netcdf(data, tmp_path / "nowhere" / "posterior.nc")
