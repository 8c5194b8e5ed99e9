"""Arrays to ArviZ's object. Needs neither torch nor Pyro, so that it runs beside either version of ArviZ."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from vbayes.errors import BadInput, OutputUnwritable
from vbayes.export import arviz as export

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
    assert data.attrs["pair"] == "toy"
    assert data["posterior"]["theta"].sel(school="C").shape == (1, S)


def test_it_needs_no_torch_and_imports_arviz_late():
    code = "import sys, vbayes.export.arviz; print({'torch', 'pyro', 'arviz', 'xarray'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_dimensions_without_a_name_count_on_and_scalars_stay_scalars():
    """Both versions of ArviZ's own `from_dict` differ here."""
    posterior = {"a": np.zeros((1, 3, 2, 4))}
    made = export.from_arrays({"posterior": posterior, "observed_data": {"y": np.float64(2.0)}}, dims={"a": ["k"]})
    assert made["posterior"]["a"].dims == ("chain", "draw", "k", "a_dim_1")
    assert made["observed_data"]["y"].shape == ()


def test_a_log_likelihood_has_lost_the_event_dimensions():
    made = export.from_arrays(
        {"log_likelihood": {"y": np.zeros((1, 3, 4))}, "observed_data": {"y": np.zeros((4, 2))}},
        dims={"y": ["row", "column"]},
    )
    assert made["log_likelihood"]["y"].dims == ("chain", "draw", "row")
    assert made["observed_data"]["y"].dims == ("row", "column")


def test_more_chains_than_draws_are_restarts_not_a_mistake():
    assert export.from_arrays({"posterior": {"a": np.zeros((4, 2))}})["posterior"]["a"].shape == (4, 2)


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
        if hasattr(az, "plot_prior_posterior"):  # 1.x: looks for the attribute sample_dims
            assert az.plot_prior_posterior(data) is not None


def test_loo_corrects_for_q(data):
    """Leaving datum i out of this model leaves y_i ~ N(0, 2): known, and missed without the weights."""
    y = groups()["observed_data"]["y"]
    exact = (-0.5 * np.log(2 * np.pi * 2) - y**2 / 4).sum()
    found = export.loo(data)
    assert found.elpd == pytest.approx(exact, abs=0.15)
    terms = -0.5 * np.log(2 * np.pi * 2) - y**2 / 4
    assert found.se == pytest.approx((N * terms.var()) ** 0.5, abs=0.1)
    assert found.pareto_k.shape == (N,) and (found.pareto_k < 0.7).all()
    flat = groups()
    flat["sample_stats"]["log_p"] = flat["sample_stats"]["log_q"]
    assert abs(export.loo(export.from_arrays(flat)).elpd - exact) > abs(found.elpd - exact)


def test_loo_is_that_of_arviz_where_it_has_one(data):
    az = export.arviz()
    if not hasattr(az, "loo_approximate_posterior"):
        # 0.x: the same sum by hand, from raw importance weights, which PSIS only smooths
        ll, stats = groups()["log_likelihood"]["y"][0], groups()["sample_stats"]
        log_w = (stats["log_p"] - stats["log_q"]).T - ll
        theirs = (np.logaddexp.reduce(log_w + ll, axis=0) - np.logaddexp.reduce(log_w, axis=0)).sum()
        assert export.loo(data).elpd == pytest.approx(theirs, abs=0.1)
        return
    stats = data["sample_stats"]
    theirs = az.loo_approximate_posterior(
        data, log_p=stats["log_p"].values.ravel(), log_q=stats["log_q"].values.ravel(), pointwise=True
    )
    assert export.loo(data).elpd == pytest.approx(theirs.elpd, abs=1e-6)
    np.testing.assert_allclose(export.loo(data).pareto_k, theirs.pareto_k.values, atol=1e-6)


def test_loo_says_what_it_misses():
    whole = groups()
    two = whole | {"log_likelihood": {"y": np.zeros((1, S, 2)), "w": np.zeros((1, S, 2))}}
    for given, variable, message in (
        ({k: v for k, v in whole.items() if k != "log_likelihood"}, None, "'log_likelihood': []"),
        ({k: v for k, v in whole.items() if k != "sample_stats"}, None, "'sample_stats': []"),
        (whole, "x", "LOO of x"),
        (two, None, "choose it by variable"),
    ):
        with pytest.raises(BadInput) as caught:
            export.loo(export.from_arrays(given), variable)
        assert message in str(caught.value)


def test_psis_without_a_tail_to_fit_is_not_trusted():
    """Few draws, equal weights, NaN: the versions of ArviZ raise, or give a NaN that no threshold catches."""
    rng = np.random.default_rng(2)
    alike = -700.0 + 3 * np.spacing(700.0) * (rng.uniform(size=100) < 0.5)  # but for their last bits
    for log_w in (rng.normal(size=24), np.zeros(100), np.zeros((2, 100)), alike, np.r_[np.nan, rng.normal(size=99)]):
        smoothed, k = export.psis(log_w)
        assert np.isinf(k).all() and smoothed.shape == log_w.shape and k.shape == log_w.shape[:-1]
    assert np.logaddexp.reduce(export.psis(rng.normal(size=24))[0]) == pytest.approx(0.0, abs=1e-12)
    assert not np.isnan(export.psis(rng.normal(size=25))[1])
    apart = -700.0 + 1e-11 * rng.uniform(size=100)  # a hundred times as far: a tail, if a short one
    assert np.isfinite(export.psis(apart)[1]) and export.psis(apart)[1] < 0.7


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
    assert same(data, again) and again["posterior"].attrs["pair"] == again.attrs["pair"] == "toy"
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.nc"]
    path.unlink()  # it is in memory, all of it
    assert same(data, again)


def test_attributes_come_back(tmp_path):
    attrs = {"text": "k̂", "integer": 3, "number": 0.5, "names": ["a", "b"], "sizes": [1, 2]}
    made = export.from_arrays({"posterior": {"a": np.zeros((1, 3))}}, attrs=attrs)
    again = export.from_netcdf(export.to_netcdf(made, tmp_path / "a.nc"))
    for name, value in attrs.items():
        for found in (made["posterior"].attrs[name], again["posterior"].attrs[name], again.attrs[name]):
            np.testing.assert_array_equal(found, value)
    for bad in (True, None, {"a": 1}, Path("x")):
        with pytest.raises(BadInput, match="Attribute 'bad'"):
            export.from_arrays({"posterior": {"a": np.zeros((1, 3))}}, attrs={"bad": bad})


def test_nothing_half_written_is_left(data, tmp_path):
    path = export.to_netcdf(data, tmp_path / "posterior.nc")
    spoilt = export.from_netcdf(path)
    spoilt["posterior"].attrs["none"] = None  # not netCDF, and no OSError either
    with pytest.raises(TypeError):
        export.to_netcdf(spoilt, path)
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.nc"]
    assert same(data, export.from_netcdf(path))


@pytest.mark.skipif("VBAYES_EXCHANGE" not in os.environ, reason="run by test_arviz1.py, with the other ArviZ's file")
def test_exchange_with_the_other_version(data):
    folder = Path(os.environ["VBAYES_EXCHANGE"])
    theirs = export.from_netcdf(folder / "theirs.nc")
    assert same(data, theirs) and theirs.attrs["pair"] == theirs["posterior"].attrs["pair"] == "toy"
    assert list(theirs["posterior"]["school"].values) == list("ABCDEFGH")
    export.to_netcdf(data, folder / "ours.nc")


A, B = np.zeros((1, 3, 2)), np.zeros((1, 3))
BAD = {
    "nothing": ({}, None, "no draws"),
    "unknown group": ({"posteriors": {"a": B}}, None, "'posteriors' is not a group"),
    "no draws axis": ({"posterior": {"a": np.zeros(3)}}, None, "(chain, draw, *shape)"),
    "not one draw": ({"posterior": {"a": np.zeros((1, 0))}}, None, "at least one draw"),
    "too many dims": ({"posterior": {"a": B}}, {"a": ["x"]}, "dims gives ['x']"),
    "dims twice": ({"posterior": {"a": np.zeros((1, 3, 2, 2))}}, {"a": ["x", "x"]}, "2 different names"),
    "dimension draw": ({"posterior": {"a": A}}, {"a": ["draw"]}, "none of them in ['chain', 'draw']"),
    "own dimension": ({"posterior": {"a": A}}, {"a": ["a"]}, "'a_plate'"),
    # ArviZ's from_dict drops b, or the variable chain, and pads to the longer length, all in silence.
    "another's dimension": ({"posterior": {"a": A, "b": B}}, {"a": ["b"]}, "'b' is both a variable and a dimension"),
    "variable chain": ({"posterior": {"a": B, "chain": B}}, None, "'chain' is both"),
    "two lengths": ({"posterior": {"a": A, "b": np.zeros((1, 3, 4))}}, {"a": ["k"], "b": ["k"]}, "'k' is 2 long"),
    "two numbers of draws": ({"posterior": {"a": A, "b": np.zeros((1, 4))}}, None, "'draw' is 3 long"),
    "slash": ({"posterior": {"enc/z": B}}, None, "Name it 'enc.z'"),
    "labels": ({"posterior": {"a": A}}, {"a": ["k"]}, "coords gives 3 labels"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    bad, dims, message = BAD[case]
    with pytest.raises(BadInput) as caught:
        export.from_arrays(bad, dims=dims, coords={"k": list("xyz")})
    assert message in str(caught.value)


def test_bad_files(data, tmp_path):
    with pytest.raises(BadInput, match="not a netCDF file"):
        export.from_netcdf(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("no draws here")
    with pytest.raises(BadInput, match="not a netCDF file"):
        export.from_netcdf(tmp_path / "text.nc")
    for nowhere in ("nowhere", "text.nc"):
        with pytest.raises(OutputUnwritable, match="Choose an existing"):
            export.to_netcdf(data, tmp_path / nowhere / "posterior.nc")
