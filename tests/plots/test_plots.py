"""Figures show the numbers of the table, and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

import vbayes as vb
from tests.comparison_table import MS, POINTS, VARIANCE, made


@pytest.fixture
def ax():
    figure, axes = pyplot.subplots()
    yield axes
    pyplot.close(figure)


def test_gradient_variance(ax):
    vb.plots.gradient_variance(made().to_dataframe(), ax, group="all")
    assert ax.get_yscale() == "log"
    assert [t.get_text() for t in ax.get_xticklabels()] == list(POINTS)
    lines = {c.get_label(): c.lines[0].get_ydata().astype(float) for c in ax.containers}
    assert list(lines) == ["Score", "Pathwise", "AnalyticKL", "STL"]
    for label, name in zip(lines, VARIANCE, strict=True):
        np.testing.assert_allclose(lines[label], VARIANCE[name])


def test_variance_time_has_the_best_on_top(ax):
    vb.plots.variance_time(made().to_dataframe(), ax, at="end")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Score", "Pathwise", "AnalyticKL", "STL"]
    cost = {name: VARIANCE[name][2] * MS[name] for name in VARIANCE}
    places = [float(point.lines[0].get_xdata()[0]) for point in ax.containers]
    assert ax.get_xscale() == "log" and not ax.patches, "a bar has no zero to start at"
    np.testing.assert_allclose(places, [cost[n] / cost["stl"] for n in ("score", "pathwise", "analytic_kl", "stl")])
    assert [t.get_text() for t in ax.texts][-1] == "1×"


def test_by_default_figures_show_the_last_point(ax):
    table = made().to_dataframe()
    table["at"] = table["at"].replace({"start": "step 0", "middle": "step 1", "end": "step 9"})
    vb.plots.variance_time(table, ax)
    assert ax.get_title(loc="left").endswith("step 9")


def test_settings_of_one_estimator_have_lines_of_their_own(ax):
    names = ["iwae(2)", "iwae", "iwae(num_particles=2, noise='antithetic')", "iwae(noise='antithetic')", "rloo"]
    rows = [
        {"at": "end", "estimator": name, "group": "all", "num_particles": k, "snr": 1.0 + k, "snr_se": 0.1}
        for name, k in zip(names, (2, 5, 2, 5, 2), strict=True)
    ]
    vb.plots.against_particles(pd.DataFrame(rows), ax)
    lines = {c.get_label(): list(c.lines[0].get_xdata()) for c in ax.containers}
    assert lines == {"IWAE": [2, 5], "IWAE (noise='antithetic')": [2, 5], "RLOO": [2]}
    assert len({c.lines[0].get_linestyle() for c in ax.containers[:2]}) == 2


def test_bias_is_measured_by_each_right_gradient(ax):
    """Ten times as long a truth, ten times as far to the left; one alarm limit with the verdict."""
    table = made().to_dataframe()
    table.loc[table.estimator == "stl", "truth"] = 50.0
    table.loc[table.estimator == "score", "bias_z"] = 3.5  # below the limit for 48 tests
    vb.plots.bias_variance_cost(table, ax)
    x = {name: float(marks.get_offsets()[0][0]) for name, marks in zip(VARIANCE, ax.collections, strict=True)}
    assert x["stl"] == pytest.approx(x["pathwise"] / 10) and x["pathwise"] == pytest.approx(0.5 / 5.0) == x["score"]
    assert not any(len(marks.get_facecolor()) for marks in ax.collections), "none is called biased"
    table["truth"] = 0.0
    vb.plots.bias_variance_cost(table, ax)
    assert "nats" in ax.get_xlabel()


def test_a_histogram_wants_draws():
    draws = {"stl": ((), float("nan"))}
    with pytest.raises(vb.errors.BadInput, match="no draws projected onto an exact gradient for stl"):
        vb.plots.gradient_histograms(draws)


def test_the_whole_figure_has_a_panel_for_each_group():
    figure = made().plot()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["guide location", "guide scale", "model", "variance × time at the end"]
    assert figure.axes[0].get_ylim() == figure.axes[2].get_ylim()
    pyplot.close(figure)


def test_estimators_without_a_colour_of_their_own_get_different_ones(ax):
    table = made().to_dataframe()
    table["estimator"] = table.estimator.replace({"score": "TraceGraph_ELBO", "stl": "stl(4)"})
    vb.plots.gradient_variance(table, ax)
    colours = {c.get_label(): c.lines[0].get_color() for c in ax.containers}
    assert len(set(colours.values())) == 4 and {"TraceGraph_ELBO", "STL (K = 4)"} <= set(colours)


def test_history(ax):
    steps = np.arange(1, 201)
    table = pd.DataFrame({"step": steps, "elbo_per_datum": -50.0 / steps})
    vb.plots.history(table, ax)
    raw, trend = ax.lines
    np.testing.assert_allclose(raw.get_ydata(), table.elbo_per_datum)
    assert abs(trend.get_ydata()[100] - table.elbo_per_datum[98:103].mean()) < 0.01
    assert ax.get_ylabel() == "ELBO per datum (nats)"


def test_images_tile_row_by_row(ax):
    pictures = np.arange(5.0)[:, None, None] / 4 * np.ones((5, 2, 3))
    vb.plots.images(pictures, ax, columns=3)
    shown = np.ma.filled(ax.images[0].get_array().astype(float), np.nan)
    assert shown.shape == (2 * 3, 3 * 4)
    np.testing.assert_allclose(shown[0:2, 4:7], 0.25)
    np.testing.assert_allclose(shown[3:5, 0:3], 0.75)
    assert np.isnan(shown[3:, 8:]).all() and np.isnan(shown[2]).all()


def test_every_estimator_has_a_look_of_its_own():
    from vbayes.plots.palette import STYLES, style

    names = list(vb.ESTIMATORS)
    assert set(STYLES) <= set(names)
    looks = [style(name, names) for name in names]
    assert len({label for label, *_ in looks}) == len({look[1:] for look in looks}) == len(names)
    assert style("rloo(4)", []) == ("RLOO (K = 4)", *style("rloo", [])[1:])


def test_what_has_no_look_of_its_own_gets_its_class_name_and_a_turn(monkeypatch):
    """In the order in which it is named; a registered estimator is called by its class, as text in `vbayes.estimators` has it."""
    from vbayes.plots import palette

    fixed = palette.STYLES["dreg"]
    monkeypatch.delitem(palette.STYLES, "dreg")
    assert palette.style("dreg", ["dreg"])[0] == "DReG" and palette.style("dreg(8)", ["dreg(8)"])[0] == "DReG (K = 8)"
    assert palette.style("dreg", []) != fixed
    mine = [f"Mine{i}" for i in range(28)]
    looks = [palette.style(name, ["stl", *mine]) for name in mine]
    assert [label for label, *_ in looks] == mine and len({look[1:] for look in looks}) == 28
    colours = {colour for _, colour, _ in palette.STYLES.values()}
    assert not colours & {colour for _, colour, _ in looks} and len({colour for _, colour, _ in looks[:4]}) == 4
