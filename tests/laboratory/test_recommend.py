"""What the laboratory recommends, and a training that follows it."""

from __future__ import annotations

import pytest
import torch

import vbayes as vb
from tests.models import X, binary, coin, small_vae


@pytest.mark.slow
def test_a_known_winner():
    """At the exact posterior STL has no noise at all, and every other has some."""
    pair, x = vb.pairs.normal_normal(), X.float()
    pair.initialise(vb.Batch((x,))).load({"loc": x / 2, "scale": torch.full((2,), 0.5).sqrt().log()})
    found = vb.recommend(pair, x, ["pathwise", "score", "stl"], particles=(1, 2), noise=("iid",), progress=False)
    assert isinstance(found.estimator, vb.STL)
    table = found.to_dataframe()
    assert set(table["round"]) == {1, 2, 3} and table.groupby("round").cost_ratio.min().eq(1.0).all()
    assert found.minibatch == 0.0 and found.verdict().startswith("Use stl")
    assert "score" not in set(table[table["round"] == 3].estimator)


def test_where_rows_make_the_noise_more_particles_are_no_bargain():
    """With one row of 200 unlike ones, the latent's noise is nothing beside the choice of the row."""

    def model(x):
        import pyro
        import pyro.distributions as dist

        mu = pyro.param("mu", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 0.01))
            pyro.sample("x", dist.Normal(mu + z, 1.0), obs=x)

    def guide(x):
        import pyro
        import pyro.distributions as dist

        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 0.01))

    x = 10.0 * torch.linspace(-1, 1, 200)
    found = vb.recommend(
        vb.Pair(model, guide),
        x,
        ["pathwise"],
        batch_size=1,
        particles=(1, 16),
        noise=("iid",),
        compile=False,
        progress=False,
    )
    share = found.minibatch / (found.minibatch + found.to_dataframe().variance.max())
    assert share > 0.99 and found.estimator.num_particles == 1 and "of the minibatch" in found.verdict()
    exact = float(
        (200 * x).var(correction=0)
    )  # Var of N (x − mu) over the rows; one row, so no correction for the others
    assert found.minibatch == pytest.approx(exact, rel=6 * found.minibatch_se / found.minibatch)


@pytest.mark.slow
def test_by_default_what_suits():
    found = vb.recommend(coin(), X.float(), particles=(2,), noise=("iid",), compile=False, progress=False)
    assert "pathwise" not in set(found.to_dataframe().estimator) and found.estimator.bound == "ELBO"


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (["gumbel_softmax"], "are biased"),
        (["pathwise", "iwae"], "different bounds .ELBO; IWAE bound of 5 particles"),
        ([], "at least one"),
    ],
)
def test_bad_candidates(candidates, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        vb.recommend(vb.pairs.normal_normal(), X.float(), candidates, progress=False)


def test_no_candidate_suits():
    with pytest.raises(vb.errors.Unsuitable, match="None of pathwise, stl can be used"):
        vb.recommend(coin(), X.float(), ["pathwise", "stl"], progress=False)


def test_no_gradient_is_finite():
    import pyro
    import pyro.distributions as dist

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("broken", z / 0.0 * pyro.param("mu", torch.tensor(1.0)))

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    with pytest.raises(vb.errors.Unsuitable, match="No gradient of pair 'model' by pathwise, stl is finite here"):
        vb.recommend(vb.Pair(model, guide), X.float(), ["pathwise", "stl"], compile=False, progress=False)


def test_variants_are_after_the_same_bound():
    found = vb.recommend(
        vb.pairs.normal_normal(), X.float(), ["iwae", "dreg"], particles=(1, 5, 16), compile=False, progress=False
    )
    assert set(found.to_dataframe().num_particles) == {5} and set(found.to_dataframe().noise) == {"iid"}


def test_the_verdict_compares_with_what_it_chose():
    """The chosen one may be second in the table; ratios to it have the error of that pair."""
    common = {"num_particles": 1, "noise": "iid", "minibatch": 0.0, "ms_per_gradient": 1.0, "ms_se": 0.0, "round": 2}
    without = [1 + 0.1 * (b % 3 - 1) for b in range(50)]
    rows = [
        common | {"estimator": name, "variance": v, "cost": v, "cost_ratio": v / 0.99, "variances_without": [v * u for u in us]}
        | {"variance_se": 0.1, "cost_ratio_se": 0.05}
        for name, v, us in (("adaptive_stl", 0.99, [1.0] * 50), ("stl", 1.0, without), ("score", 2.0, without))
    ]  # fmt: skip
    first = [rows[2] | {"round": 1, "cost_ratio": 1.0}, rows[1] | {"round": 1, "cost_ratio": 7.0, "cost": 9.0}]
    found = vb.Recommendation(vb.STL(), "pair", "data", 2, 0.0, 0.0, (*first, *rows), 1.0)
    text = found.verdict()
    assert "adaptive_stl can't be distinguished from it" in text and "score needs 2 ± 0 times" in text
    assert "The worst of the 2 of the first round, stl, needed 7 times" in text


@pytest.mark.slow
def test_a_training_that_asks(tmp_path):
    pair, data = small_vae(), binary(40)
    fit = vb.fit(pair, data, "auto", steps=20, learning_rate=0.01, progress=False)
    assert fit.steps == 20 and [step for step, _ in fit.switches] == [0]
    again = vb.fit(pair, data, fit.estimator, steps=20, learning_rate=0.01, compile=False, progress=False)
    assert again.history.elbo.equals(fit.history.elbo), "what was chosen, from the start"
    kept = vb.Fit.load(fit.save(tmp_path / "fit.safetensors"), pair, data, estimator=fit.estimator)
    assert kept.switches == fit.switches and kept.resume(steps=1, progress=False).steps == 21
    with pytest.raises(vb.errors.BadInput, match="estimator='auto' chooses for one fit"):
        vb.fit(pair, data, "auto", steps=20, restarts=2, progress=False)


@pytest.mark.slow
def test_a_long_training_asks_again(monkeypatch):
    monkeypatch.setattr("vbayes.laboratory.auto.BUDGET", 0.01)  # seconds: when it asks counts, not among how many
    fit = vb.fit(
        vb.pairs.eight_schools(), vb.data.eight_schools(), "auto", steps=1000, learning_rate=0.01, progress=False
    )
    assert [step for step, _ in fit.switches] == [0, 100, 500] and fit.steps == 1000
    assert list(fit.history["step"]) == list(range(1, 1001))
