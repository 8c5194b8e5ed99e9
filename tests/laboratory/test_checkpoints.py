"""Where gradients are measured, in how many particles, and by which bound they are judged."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal

import vbayes as vb
from tests.comparison_table import made
from tests.models import X, binary, small_vae
from vbayes.pair.problem import Problem
from vbayes.pairs import TRACTABLE

QUICK = {"replicas": 100, "progress": False}


@pytest.fixture(scope="module")
def trajectory() -> vb.Comparison:
    return vb.compare(small_vae(), binary(40), ["stl"], at="trajectory", steps=32, learning_rate=0.01, **QUICK)


def test_a_trajectory(trajectory):
    result = trajectory
    assert [p.step for p in result.points] == [0, 1, 2, 4, 8, 16, 32] and result.fit.steps == 32
    table = result.to_dataframe()
    assert list(dict.fromkeys(table["step"])) == [0, 1, 2, 4, 8, 16, 32]
    assert table.elbo_per_datum.iloc[-1] == result.points[-1].elbo_per_datum > result.points[0].elbo_per_datum


@pytest.mark.parametrize(
    ("at", "steps", "names"),
    [
        (None, 0, ["start"]),
        (None, 1, ["start", "end"]),
        (None, 2, ["start", "middle", "end"]),
        ("trajectory", 0, ["step 0"]),
        ("trajectory", 1, ["step 0", "step 1"]),
        ("start", 4, ["start"]),
        (["end", "step 1"], 4, ["step 1", "end"]),
    ],
)
def test_no_point_is_measured_twice(at, steps, names):
    result = vb.compare(vb.pairs.normal_normal(), X.float(), ["stl"], at=at, steps=steps, learning_rate=0.1, **QUICK)
    assert [p.at for p in result.points] == names == list(dict.fromkeys(result.to_dataframe()["at"]))


@pytest.mark.slow
def test_a_name_that_the_table_has_is_a_place_to_measure_at():
    """Alone or among others, at one place the draws are the same: the whole row comes out of both."""
    options = {"steps": 4, "learning_rate": 0.1, **QUICK}
    pair, x = vb.pairs.normal_normal(), X.float()
    tables = {at: vb.compare(pair, x, ["stl"], at=at, **options) for at in (None, "trajectory")}
    for name in ("middle", "end", "step 2"):
        whole = tables["trajectory" if name == "step 2" else None]
        alone = vb.compare(pair, x, ["stl"], at=name, **options)
        assert alone.points == tuple(point for point in whole.points if point.at == name)
        found = [result.to_dataframe() for result in (alone, whole)]
        rows = [table[table["at"] == name].reset_index(drop=True) for table in found]
        numbers = [row[[c for c in row if not c.startswith(("ms_", "variance_time"))]] for row in rows]
        pd.testing.assert_frame_equal(*numbers, check_exact=True)


def test_the_points_of_a_trajectory_are_those_of_one_training(trajectory):
    whole = vb.fit(small_vae(), binary(40), steps=32, learning_rate=0.01, progress=False)
    for name, value in whole.parameters.items():
        torch.testing.assert_close(trajectory.fit.parameters[name], value, rtol=0, atol=0)


def test_fits_and_parameter_values():
    pair = vb.pairs.normal_normal()
    fits = [vb.fit(pair, X.float(), steps=n, learning_rate=0.1, progress=False) for n in (0, 20)]
    by_fits = vb.compare(pair, X.float(), ["pathwise"], at=fits, **QUICK)
    by_values = vb.compare(
        pair, X.float(), ["pathwise"], at={"a": fits[0].parameters, "b": fits[1].parameters}, **QUICK
    )
    assert [p.at for p in by_fits.points] == ["step 0", "step 20"]
    columns = ["mean_norm", "variance", "snr"]
    same = (by_fits.to_dataframe()[columns], by_values.to_dataframe()[columns])
    torch.testing.assert_close(*(torch.tensor(table.to_numpy()) for table in same), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("everywhere", "at='everywhere' is not valid"),
        ("step 2000", "at='step 2000', but the training has 1000 steps"),
        ({}, "a non-empty mapping"),
        ({"here": 3}, "at={'here': 'int'} is not valid"),
        ({"here": {"lok": torch.zeros(2)}}, "has no parameter 'lok'. Wanted: one of loc, scale"),
        ({"here": {"scale": -torch.ones(2)}}, "Parameter 'scale' .* is not in"),
        ({"here": {"loc": torch.zeros(3)}}, r"Parameter 'loc' .* has shape \(3,\)"),
    ],
)
def test_bad_checkpoints(at, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        vb.compare(vb.pairs.normal_normal(), X.float(), ["pathwise"], at=at, **QUICK)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Heavy tails")  # blocks of two draws
def test_particles():
    pair = vb.pairs.normal_normal()
    result = vb.compare(pair, X.float(), ["pathwise", "rloo"], particles=(1, 4, 16), at={"here": pair}, **QUICK)
    assert result.estimators == ("pathwise", "pathwise(4)", "pathwise(16)", "rloo(4)", "rloo(16)")
    rows = result.to_dataframe().query("group == 'all'").set_index("estimator")
    assert rows.num_particles["rloo(16)"] == 16
    for k in (4, 16):
        ratio = rows.variance["pathwise"] / rows.variance[f"pathwise({k})"]
        assert ratio == pytest.approx(k, rel=0.5)
    with pytest.raises(vb.errors.BadInput, match=r"particles=\(1,\) are too few for rloo. Wanted: at least 2"):
        vb.compare(pair, X.float(), ["rloo"], particles=(1,), at={"here": pair}, **QUICK)
    usual = vb.compare(pair, X.float(), particles=(1,), at={"here": pair}, **QUICK)
    assert set(usual.estimators) == {"score", "pathwise", "analytic_kl", "stl"}, "of the usual ones, those that can"
    with pytest.raises(vb.errors.BadInput, match=r"particles=\(0,\) are too few for score"):
        vb.compare(pair, X.float(), particles=(0,), at={"here": pair}, **QUICK)


@pytest.mark.slow
def test_settings_of_a_bound_do_not_compete():
    pair = vb.pairs.normal_normal()
    methods = [vb.Renyi(4, alpha=0.3), vb.Renyi(4, alpha=0.7), vb.IWAE(4), vb.IWAE(4, noise="antithetic"), vb.STL()]
    result = vb.compare(pair, X.float(), methods, at={"here": pair}, **QUICK)
    bounds = result.to_dataframe().query("group == 'all'").set_index("estimator").bound
    assert bounds.nunique() == 5 and bounds["stl"] == "ELBO" and bounds["iwae(4)"] == "IWAE bound of 4 particles"
    assert result.verdict().count("only ") == 5


@pytest.mark.slow
def test_pyros_other_bounds_are_not_taken_for_the_elbo():
    from pyro.infer import RenyiELBO, TraceGraph_ELBO, TraceTailAdaptive_ELBO

    class Mine(TraceGraph_ELBO):
        bound = "ELBO"

    pair = vb.pairs.normal_normal()
    methods = {
        "renyi": RenyiELBO(alpha=0.5, num_particles=2, vectorize_particles=False),
        "other": RenyiELBO(alpha=0.1, num_particles=2, vectorize_particles=False),
        "graph": TraceGraph_ELBO(),
        "mine": Mine(),
        "pathwise": vb.Pathwise(),
    }
    result = vb.compare(pair, X.float(), methods, at={"here": pair}, **QUICK)
    rows = result.to_dataframe().query("group == 'all'").set_index("estimator")
    assert rows.bound.to_dict() == {
        "renyi": "RenyiELBO of 2 particles", "other": "RenyiELBO of 2 particles (as in other)",
        "graph": "ELBO", "mine": "ELBO", "pathwise": "ELBO",
    }  # fmt: skip
    assert rows.oracle["renyi"] == "none" and math.isnan(rows.bias_z["renyi"]) and math.isnan(rows.truth["renyi"])
    for oracle in (RenyiELBO(num_particles=2), TraceTailAdaptive_ELBO(num_particles=2)):
        with pytest.raises(vb.errors.BadInput, match="is not known to estimate the ELBO"):
            vb.compare(pair, X.float(), ["pathwise"], oracle=oracle, at={"here": pair}, **QUICK)


def test_a_broken_oracle_is_named():
    pair = vb.pairs.normal_normal()
    exact = vb.Exact(lambda x: math.nan * pair.exact.elbo(x), pair.exact.log_evidence, pair.exact.posterior)
    broken = vb.Pair(pair.model, pair.guide, name="broken", exact=exact)
    with pytest.raises(vb.errors.NonFinite, match=r"The oracle \(exact ELBO\) .* not finite at the here"):
        vb.compare(broken, X.float(), ["pathwise"], at={"here": broken}, **QUICK)


@pytest.mark.slow
def test_each_bound_has_its_own_judge():
    """DReG judges IWAE of as many particles, and is its own oracle, which judges nothing; what has no other of its bound is judged by the bound's derivative."""
    pair = vb.pairs.normal_normal()
    methods = {
        "one": vb.IWAE(2),
        "two": vb.IWAE(4),
        "dreg": vb.DReG(4),
        "elbo": vb.Pathwise(),
        "own": vb.MIWAE(4, groups=2),
    }
    result = vb.compare(pair, X.float(), methods, at={"here": pair}, replicas=1000, progress=False)
    rows = result.to_dataframe().query("group == 'all'").set_index("estimator")
    assert rows.oracle.to_dict() == {
        "one": "dreg(2), 10000 replicas", "two": "dreg(4), 10000 replicas", "dreg": "itself", "elbo": "exact ELBO", "own": "Derivative(4), 10000 replicas",
    }  # fmt: skip
    assert rows.bias_z.drop("dreg").abs().max() < 4 and math.isnan(rows.bias_z["dreg"])
    assert "Among estimators of the IWAE bound of 4 particles" in result.verdict()


def test_a_biased_estimator_of_many_particles_is_caught():
    """STL's way of dropping the score term, tried on the importance-weighted bound."""

    class Sticky(vb.IWAE):
        needs = vb.IWAE.needs | {"log_q_fixed"}

        def estimate(self, particles):
            log_w = particles.log_p - particles.log_q_fixed
            return vb.Estimate.of(log_w.logsumexp(0))

    pair = vb.pairs.normal_normal()
    with pytest.warns(UserWarning, match="The value of Sticky is not its bound_of for 'IWAE'"):  # it is log 5 higher
        result = vb.compare(
            pair, X.float(), {"sticky": Sticky(5), "iwae": vb.IWAE(5)}, at={"here": pair}, replicas=4000, progress=False
        )
    rows = result.to_dataframe().query("group == 'all'").set_index("estimator")
    assert abs(rows.bias_z["sticky"]) > 5 > 4 > abs(rows.bias_z["iwae"])
    assert rows.bias["sticky"] > rows.bias_resolution["sticky"] and "Biased here: sticky" in result.verdict()


def test_an_oracle_too_noisy_to_judge():
    pair, data = vb.pairs.eight_schools(), vb.data.eight_schools()
    options = {"at": {"start": pair}, "replicas": 500, "progress": False}
    by_score = vb.compare(pair, data, ["pathwise"], oracle="score", **options)
    assert "Can't judge the bias of pathwise at start" in by_score.verdict()
    assert "No estimator shows bias" not in by_score.verdict()
    by_itself = vb.compare(pair, data, ["pathwise"], oracle="analytic_kl", **options)
    assert "No estimator shows bias" in by_itself.verdict() and "Can't judge" not in by_itself.verdict()


def test_a_biased_oracle_is_refused():
    with pytest.raises(vb.errors.BadInput, match="oracle='gumbel_softmax' is biased itself"):
        vb.compare(vb.pairs.normal_normal(), X.float(), ["pathwise"], oracle="gumbel_softmax", **QUICK)


def over_batch_sizes(sizes: tuple[int, ...], estimators: list[str], replicas: int = 100) -> vb.ComparisonOver:
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 1.0))

    options = {"steps": 0, "replicas": replicas, "progress": False}
    return vb.compare_over(
        "rows",
        sizes,
        lambda n: vb.compare(vb.Pair(model, guide), torch.ones(300), estimators, batch_size=int(n), **options),
    )


def test_over():
    over = over_batch_sizes((10, 20, 40), ["pathwise", "score"])
    table = over.to_dataframe()
    assert table.columns[0] == "rows" and set(table.rows) == {10, 20, 40}
    assert len(table) == 3 * len(over.comparisons[10].to_dataframe())
    assert "Variance scales like rows to the power of: pathwise" in over.verdict()
    with pytest.raises(vb.errors.BadInput, match="name='step' is already a column"):
        vb.compare_over("step", (10, 20), lambda n: over.comparisons[10])
    with pytest.raises(vb.errors.BadInput, match="Wanted: one or more distinct numbers"):
        vb.compare_over("rows", (10, 10), lambda n: over.comparisons[10])


def test_over_trajectories_of_other_lengths_and_estimators_without_noise():
    """The last points have other names; one estimator has no logarithm, and one was measured once."""
    longer = made()
    late = tuple({**row, "at": "step 9" if row["at"] == "end" else row["at"]} for row in longer.rows)
    renamed = replace(longer, rows=late, points=())
    still = tuple(
        {**row, "variance": 0.0, "variance_time": 0.0} if row["estimator"] == "stl" else row for row in longer.rows
    )
    over = vb.ComparisonOver("width", {1: longer, 2: renamed, 4: replace(longer, rows=still)})
    slopes = over.slopes().set_index("estimator")
    assert set(slopes.index) == set(longer.estimators) and slopes.slope["score"] == pytest.approx(0.0, abs=1e-9)
    assert "stl is best for its cost at every width" in over.verdict() and "score +0.00" in over.verdict()
    assert vb.ComparisonOver("width", {1: longer}).slopes().empty
    over.plot()


@pytest.mark.slow
def test_the_slope_is_that_of_the_law():
    """The gradient (N/M) Σ (1 − 2 z) of M rows has variance 4 N²/M."""
    slopes = over_batch_sizes((4, 16, 64), ["pathwise"], 2000).slopes().iloc[0]
    assert abs(slopes.slope + 1.0) < 4 * slopes.slope_se < 0.2


@pytest.mark.slow
def test_a_tabulated_oracle_judges_every_bound():
    pair, batch = TRACTABLE["three_bernoulli"].pair(), TRACTABLE["three_bernoulli"].batch()
    methods = ["rloo", "disarm", "gumbel_softmax", vb.VIMCO(2)]
    result = vb.compare(
        pair, *batch.args, methods, at={"here": pair}, oracle="tabulated", replicas=10_000, progress=False
    )
    rows = result.to_dataframe().set_index("estimator")
    assert set(rows.oracle) == {"tabulated"}
    whole = rows[rows.group == "all"] if (rows.group == "all").any() else rows
    assert whole.bias_z.drop("gumbel_softmax").abs().max() < 4 < abs(whole.bias_z["gumbel_softmax"])
    with pytest.raises(vb.errors.BadInput, match="a part of its data"):
        vb.compare(
            small_vae(), binary(20), ["stl"], at={"here": small_vae()}, oracle="tabulated", batch_size=5, **QUICK
        )


def test_a_fit_that_has_met_its_guide_first_has_its_parameters_in_another_order():
    """An autoguide makes them when it is first called, and is asked for them in another order later: gradients of both go by the same."""

    def model(x):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(x @ w, 1.0), obs=x[:, 0])

    pair, x = vb.Pair(model, AutoMultivariateNormal(model)), torch.eye(2)
    first = vb.fit(pair, x, steps=0, progress=False)
    problem = Problem.of(pair, x)
    here = problem.alike(first.pair, "at")
    with here.look():
        here.run(problem.first)
    assert list(first.pair.parameters) != list(problem.pair.parameters) == list(here.parameters) == list(here.leaves)
