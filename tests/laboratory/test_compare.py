"""compare: its columns, its numbers against known ones, its points, its order of estimators."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoIAFNormal

import vbayes as vb
from tests.models import X, binary, coin, mixed, small_vae
from vbayes.exact import normal_normal
from vbayes.laboratory import moments
from vbayes.laboratory.bias import bias
from vbayes.laboratory.comparison import COLUMNS
from vbayes.laboratory.timing import interleaved

VARIANCE = {
    "score": (8.4716 + 29.0270, 138.3488),
    "rloo": (11.5, 41.5),
    "pathwise": (8.0, 20.25),
    "analytic_kl": (2.0, 8.25),
    "stl": (2.0, 8.25),
}


@pytest.fixture(scope="module")
def known() -> vb.Comparison:
    """Of the conjugate pair at q = prior, where every variance is known."""
    pair = vb.pairs.normal_normal()
    return vb.compare(pair, X.float(), at={"prior": pair}, replicas=40_000, progress=False)


def test_columns(known):
    table = known.to_dataframe()
    first = [
        "at",
        "estimator",
        "group",
        "mean_norm",
        "bias_z",
        "variance",
        "variance_se",
        "snr",
        "ms_per_gradient",
        "variance_time",
    ]
    assert list(table.columns)[:10] == first and tuple(table.columns) == COLUMNS
    assert set(table.group) == {"guide location", "guide scale", "all"} and len(table) == 15
    assert table.drop(columns=["dsnr", "dsnr_se"]).notna().all().all()
    assert set(table[table.dsnr.notna()].group) == {"all"}  # the others have two parameters, too few for it
    assert known.oracle == "exact ELBO" and known.replicas == 40_000 and known.estimators == tuple(VARIANCE)


@pytest.mark.parametrize("name", VARIANCE)
def test_known_numbers(known, name):
    rows = known.to_dataframe().query("estimator == @name").set_index("group")
    for group, expected, norm in zip(("guide location", "guide scale"), VARIANCE[name], (4.25**0.5, 2.0), strict=True):
        row = rows.loc[group]
        assert abs(row.variance - expected) < 4 * row.variance_se
        assert abs(row.mean_norm - norm) < 4 * row.mean_norm_se + 1e-6
        assert row.snr == pytest.approx(row.mean_norm / row.variance**0.5)
        assert row.variance_time == pytest.approx(row.variance * row.ms_per_gradient)
        assert abs(row.bias_z) < 4 and 0 < row.variance_se < 0.1 * expected


def test_pyros_own_estimators_go_one_by_one():
    pair = vb.pairs.normal_normal()
    table = vb.compare(
        pair, X.float(), [pyro.infer.Trace_ELBO(), "pathwise"], at={"prior": pair}, replicas=2000, progress=False
    ).to_dataframe()
    rows = table.query("group == 'all'").set_index("estimator")
    theirs, ours = rows.loc["Trace_ELBO"], rows.loc["pathwise"]
    assert abs(theirs.variance - 28.25) < 4 * theirs.variance_se and abs(theirs.bias_z) < 4
    assert abs(ours.variance - 28.25) < 4 * ours.variance_se


def test_a_biased_estimator_is_caught():
    class Wrong(vb.AnalyticKL):
        """Forgets a tenth of the KL."""

        def estimate(self, particles):
            honest = super().estimate(particles)
            return vb.Estimate(honest.value, honest.surrogate + 0.1 * particles.kl)

    pair = small_vae()
    result = vb.compare(
        pair, binary(20), [Wrong(), "pathwise"], steps=40, learning_rate=0.02, replicas=1000, progress=False
    )
    table = result.to_dataframe()
    assert result.oracle == "analytic_kl, 10000 replicas"
    assert table.query("estimator == 'Wrong' and group == 'guide location'").bias_z.abs().max() > 6
    assert table.query("estimator == 'pathwise'").bias_z.abs().max() < 4
    assert "Biased here: Wrong" in result.verdict()


@pytest.mark.slow
def test_along_a_training_run():
    result = vb.compare(
        small_vae(), binary(60), epochs=4, batch_size=20, learning_rate=0.02, replicas=100, progress=False
    )
    assert [p.at for p in result.points] == ["start", "middle", "end"]
    assert [p.step for p in result.points] == [0, 6, 12] and result.fit.steps == 12
    table = result.to_dataframe()
    assert set(table.group) == {"guide location", "guide scale", "guide (shared)", "model", "all"}
    for at in ("start", "middle", "end"):
        variance = table[(table["at"] == at) & (table.group == "guide location")].set_index("estimator").variance
        assert variance["score"] > 5 * variance["pathwise"] > 5 * variance["analytic_kl"]


def test_ctrl_c_during_the_training_ends_the_comparison(monkeypatch):
    calls, estimate = [], vb.AnalyticKL.estimate

    def interrupted(self, particles):
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return estimate(self, particles)

    monkeypatch.setattr(vb.AnalyticKL, "estimate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vb.compare(small_vae(), binary(20), ["stl"], steps=40, replicas=100, progress=False)
    assert len(calls) == 10


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers():
    def numbers(seed):
        result = vb.compare(
            small_vae(), binary(20), ["score", "stl"], at="end", steps=4, replicas=100, seed=seed, progress=False
        )
        return result.to_dataframe()[["mean_norm", "bias_z", "variance", "variance_se", "snr"]]

    first = numbers(0)
    assert first.equals(numbers(0)) and not first.equals(numbers(1))


def test_common_random_numbers():
    """Pathwise and Trace are the same estimator here: with the same draws, the same numbers."""
    table = vb.compare(
        small_vae(), binary(20), ["trace", "pathwise"], steps=2, replicas=100, progress=False
    ).to_dataframe()
    trace, pathwise = (table.query("estimator == @name").variance.to_numpy() for name in ("trace", "pathwise"))
    torch.testing.assert_close(torch.tensor(trace), torch.tensor(pathwise), rtol=1e-4, atol=0.0)


def test_defaults_are_those_that_suit():
    pair = coin()
    result = vb.compare(pair, X.float(), at={"here": pair}, replicas=100, progress=False)
    assert result.estimators == ("score", "rloo", "analytic_kl") and result.oracle.startswith("rloo(8)")


def test_groups():
    batch = vb.Batch((binary(4),))
    assert set(vb.parameter_groups(small_vae().initialise(batch), batch)["guide location"]) == {
        "encoder$$$location.weight",
        "encoder$$$location.bias",
    }
    schools = vb.Batch(tuple(vb.data.eight_schools().tensors.values()))
    groups = vb.parameter_groups(vb.pairs.eight_schools().initialise(schools), schools)
    assert len(groups["guide location"]) == len(groups["guide scale"]) == 3 and set(groups) == {
        "guide location",
        "guide scale",
        "all",
    }
    pair = mixed().initialise(vb.Batch((X.float(),)))
    by_name = vb.parameter_groups(pair, vb.Batch((X.float(),)), "parameter")
    assert set(by_name) == {"shared", "logit", "loc", "all"}
    assert vb.parameter_groups(pair, vb.Batch((X.float(),)), {"mine": ["loc"]})["mine"] == ("loc",)
    with pytest.raises(vb.errors.BadInput, match="has no parameters lok"):
        vb.parameter_groups(pair, vb.Batch((X.float(),)), {"mine": ["lok"]})


def test_moments_against_numbers_made_for_it():
    """Normal draws with known mean and covariance: values within 4 SE, SEs of the right size, z standard normal."""
    mean, sd = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64)
    variances, ses, zs, wrong = [], [], [], []
    with vb.seeded(0):
        for _ in range(200):
            drawn, oracle = (
                moments.collect(([mean + sd * torch.randn(20, 3, dtype=torch.float64)] for _ in range(50)), mean, 20)
                for _ in range(2)
            )
            value, se = moments.variance(drawn)
            variances.append(value)
            ses.append(se)
            zs.append(bias(drawn, oracle).z)
            wrong.append(bias(drawn, mean + 0.5).z)
    variances, ses, zs, wrong = map(torch.tensor, (variances, ses, zs, wrong))
    assert abs(variances.mean() - 10.25) < 4 * variances.std() / 200**0.5
    assert ses.mean() == pytest.approx(float(variances.std()), rel=0.2)
    assert abs(zs.mean()) < 4 / 200**0.5 and float(zs.std()) == pytest.approx(1.0, abs=0.2)
    assert (wrong.abs() > 3).float().mean() > 0.9


def test_timing_is_per_call_and_interleaved(monkeypatch):
    """On a clock that only the tasks move: a slow one by 4 ms a call, with one hiccup, a quick one by 1 ms and now and then 2."""
    now, order = [0.0], []
    monkeypatch.setattr("vbayes.laboratory.timing.time", SimpleNamespace(perf_counter=lambda: now[0]))

    def slow():
        order.append("s")
        now[0] += 4.0 if len(order) == 21 else 0.004

    def quick():
        order.append("q")
        now[0] += 0.002 if order.count("q") % 3 == 0 else 0.001

    times = interleaved({"slow": slow, "quick": quick}, rounds=12)
    assert times["slow"] == pytest.approx((4.0, 0.0)) and times["quick"][0] == pytest.approx(1.0)
    # Six times 1 ms and three times 2 ms have the quartiles 1 and 2. After nine rounds three seconds were over.
    assert times["quick"][1] == pytest.approx(1.2533 / 1.349 / 9**0.5, rel=1e-4)
    assert order[:4] == ["s", "q", "q", "s"] and len(order) == 2 * (2 + 9)


def test_timing_waits_for_a_card(monkeypatch):
    """A call returns after 1 ms, and the card is done after 5."""
    now, busy = [0.0], [0.0]
    monkeypatch.setattr("vbayes.laboratory.timing.time", SimpleNamespace(perf_counter=lambda: now[0]))

    def task():
        now[0] += 0.001
        busy[0] = max(busy[0], now[0]) + 0.004

    def wait(device):
        assert device == torch.device("cuda", 1)
        now[0] = max(now[0], busy[0])

    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    assert interleaved({"task": task}, rounds=6, device=torch.device("cuda", 1))["task"][0] == pytest.approx(5.0)
    assert interleaved({"task": task}, rounds=6, device=torch.device("cpu"))["task"][0] == pytest.approx(1.0)


def amortised() -> vb.Pair:
    """Normal-normal whose guide computes its location from the datum; its exact ELBO is that of what it is handed."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        a, s = pyro.param("a", torch.tensor(0.2)), pyro.param("s", torch.tensor(0.8), dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(a * x, s))

    def elbo(x):
        return normal_normal.elbo(x, pyro.param("a") * x, pyro.param("s").expand(len(x)))

    exact = vb.Exact(elbo, normal_normal.log_evidence, lambda x: {})
    return vb.Pair(model, guide, name="amortised", exact=exact)


@pytest.mark.on_cpu
def test_a_minibatch_is_not_judged_by_the_exact_elbo_of_a_part():
    pair, x = amortised(), torch.linspace(-2, 3, 40)
    options = {"at": {"here": pair}, "replicas": 1000, "progress": False}
    part = vb.compare(pair, x, ["pathwise", "analytic_kl"], batch_size=10, **options)
    whole = vb.compare(pair, x, ["pathwise", "analytic_kl"], **options)
    assert part.oracle != "exact ELBO" == whole.oracle
    for result in (part, whole):
        assert result.to_dataframe().bias_z.abs().max() < 4 and "No estimator shows bias" in result.verdict()


def test_rounding_is_not_bias():
    """At the exact posterior the noise of STL is rounding, and so is what it differs by."""
    pair, x = vb.pairs.normal_normal(), X.float()
    batch = vb.Batch((x,))
    pair.initialise(batch).load({"loc": x / 2, "scale": torch.full((2,), 0.5).sqrt().log()})
    result = vb.compare(pair, x, at={"posterior": pair}, replicas=1000, progress=False)
    table = result.to_dataframe().query("group == 'all'").set_index("estimator")
    assert table.variance["stl"] < 1e-9 < 1e-2 < table.variance["pathwise"]
    assert "No estimator shows bias" in result.verdict()


def test_gradients_that_are_not_finite_are_no_verdict():
    class Bad(vb.Pathwise):
        def estimate(self, particles):
            return vb.Estimate.of(particles.log_w.mean(0) * float("nan"))

    pair = vb.pairs.normal_normal()
    with pytest.raises(vb.errors.NonFinite, match="'Bad' gave a gradient of pair 'normal_normal'.*at the start"):
        vb.compare(pair, X.float(), ["pathwise", Bad()], at={"start": pair}, replicas=100, progress=False)


@dataclasses.dataclass(frozen=True)
class Tempered(vb.Pathwise):
    beta: float = 1.0

    def estimate(self, particles):
        return vb.Estimate.of((particles.log_p - self.beta * particles.log_q).mean(0))


def test_settings_of_an_estimator_are_told_apart():
    pair = vb.pairs.normal_normal()
    options = {"at": {"here": pair}, "replicas": 100, "progress": False}
    own = [Tempered(), Tempered(beta=0.5), Tempered(4), vb.Pathwise(4), pyro.infer.Trace_ELBO(num_particles=2)]
    names = ("Tempered", "Tempered(beta=0.5)", "Tempered(4)", "pathwise(4)", "Trace_ELBO(2)")
    with pytest.warns(UserWarning, match="The value of Tempered is not the ELBO"):  # as it says with beta=0.5
        assert vb.compare(pair, X.float(), own, **options).estimators == names
    mine = {"one": pyro.infer.Trace_ELBO(), "another": pyro.infer.Trace_ELBO()}
    assert vb.compare(pair, X.float(), mine, **options).estimators == ("one", "another")


def test_a_flow_belongs_to_the_guide():
    def model(x):
        m = pyro.sample("m", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(m.sum(), 1.0), obs=x)

    batch = vb.Batch((X.float(),))
    with vb.seeded(0):
        pairs = [vb.Pair(model, guide(model)) for guide in (AutoIAFNormal, AutoDelta)]
    for pair in pairs:
        assert set(vb.parameter_groups(pair.initialise(batch), batch)) == {"guide (shared)", "all"}


def test_nothing_is_printed_of_operations_without_a_rule(capfd):
    """Torch says so in each of thousands of calls, and would have it filed: a draw of Gamma latents has some of them."""
    pair = vb.pairs.TRACTABLE["gamma_poisson"]
    vb.compare(pair.pair(), pair.batch().args[0], ["pathwise"], at={"here": pair.pair()}, replicas=100, progress=False)
    assert capfd.readouterr().err == ""


def test_what_is_nothing_but_rounding_is_no_noise():
    """In single precision sticking the landing's gradient at the posterior is 1e-7 and not 0: no ratio of 10¹³."""
    x = torch.tensor([-0.5, 2.0])
    pair = vb.pairs.normal_normal().initialise(vb.Batch((x,)))
    pair.load({"loc": x / 2, "scale": torch.tensor(0.5).sqrt().log()})
    result = vb.compare(pair, x, ["pathwise", "stl"], at={"there": pair}, replicas=100, progress=False)
    assert result.to_dataframe().query("estimator == 'stl'").variance.eq(0.0).all()
    assert result.verdict().startswith("At there, stl has no noise at all. Use stl here.")
    result.plot().canvas.draw()


def test_what_is_not_captured_is_marked():
    @dataclasses.dataclass(frozen=True)
    class Reading(vb.Pathwise):
        def estimate(self, particles):
            assert float(particles.log_w.detach().sum()) < 1e9
            return super().estimate(particles)

    pair = vb.pairs.normal_normal()
    with pytest.warns(UserWarning, match="computed one by one"):
        result = vb.compare(pair, X, [Reading(), "pathwise"], at={"here": pair}, replicas=100, progress=False)
    captured = result.to_dataframe().drop_duplicates("estimator").set_index("estimator").captured
    assert captured["pathwise"] == "yes" and "can't be captured" in captured["Reading"]
    assert (
        "Not compiled: Reading, whose time is that of Pyro, not of a compiled program as for the other. Pair 'normal_normal' can't be"
        in result.verdict()
    )
