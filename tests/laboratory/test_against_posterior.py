"""How far q is from the posterior, against normals of which paper knows the answer; and races by it."""

from __future__ import annotations

import functools
import math

import matplotlib
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes.laboratory.against_posterior import AgainstPosterior

matplotlib.use("Agg")
pytestmark = pytest.mark.usefixtures("double")
X = torch.zeros(1)
MEAN, SCALE, RHO = torch.tensor([0.3, -0.5]), torch.tensor([0.8, 0.4]), 0.7
run = functools.partial(vb.race, progress=False, device="cpu")


def model(x):
    """(a, b) normal with sds 1 and correlation ρ."""
    a = pyro.sample("a", dist.Normal(x.new_zeros(()), 1.0))
    pyro.sample("b", dist.Normal(RHO * a, math.sqrt(1 - RHO**2)))


def guide(x):
    for number, name in enumerate(("a", "b")):
        loc = pyro.param(f"loc.{name}", lambda number=number: MEAN[number].clone())
        scale = pyro.param(
            f"scale.{name}", lambda number=number: SCALE[number].clone(), constraint=dist.constraints.positive
        )
        pyro.sample(name, dist.Normal(loc, scale))


def look(reference=None) -> dict[str, float]:
    pair = vb.Pair(model, guide, name="correlated")
    data = vb.Dataset.of(X)
    pair.initialise(data.batch(pair.model))
    return AgainstPosterior(pair, data, reference, seed=0)(pair)


def test_kls_and_errors_on_paper():
    covariance = torch.tensor([[1.0, RHO], [RHO, 1.0]])
    p, q = (
        torch.distributions.MultivariateNormal(*of)
        for of in ((torch.zeros(2), covariance), (MEAN, SCALE.square().diag()))
    )
    found = look()
    assert found["kl"] == pytest.approx(float(torch.distributions.kl_divergence(q, p)), abs=1e-6)
    assert found["forward_kl"] == pytest.approx(float(torch.distributions.kl_divergence(p, q)), abs=1e-6)
    assert found["mean_error"] == pytest.approx(float(MEAN.square().mean().sqrt()), abs=1e-6)
    assert found["sd_error"] == pytest.approx(float(SCALE.log().square().mean().sqrt()), abs=1e-6)
    assert (
        found["k_hat"] > 0.3 and 0 < found["effective"] < 1
    )  # p is wider than q, so that the weights have no variance


def test_reference_draws_stand_for_a_table():
    normal = torch.randn(40_000, 2, generator=torch.Generator().manual_seed(0))
    z = normal @ torch.linalg.cholesky(torch.tensor([[1.0, RHO], [RHO, 1.0]])).T
    by_draws, exact = look({"a": z[:, 0], "b": z[:, 1].numpy()}), look()
    # 40,000 draws of the one and 4000 of the other: 5 standard errors of a mean, and of a log sd
    assert by_draws["mean_error"] == pytest.approx(exact["mean_error"], abs=5 * math.sqrt(1 / 40_000 + 0.64 / 4000))
    assert by_draws["sd_error"] == pytest.approx(exact["sd_error"], abs=5 * math.sqrt(0.5 / 40_000 + 0.5 / 4000))
    assert by_draws["kl"] == exact["kl"]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"c": np.zeros(5)}, r"not a latent of the pair. Wanted: draws of its latents, a \(S\), b \(S\)"),
        ({"a": np.zeros((5, 2))}, r"Wanted: draws of the pair's latents, a \(S\), b \(S\)"),
        ({"a": np.zeros(1)}, "has the shape"),
        ({"a": np.full(5, np.nan)}, "not finite"),
        ({"a": "abc"}, "is 'abc'"),
    ],
)
def test_reference_of_other_latents(reference, said):
    with pytest.raises(vb.errors.BadInput, match=said):
        look(reference)


@pytest.fixture(scope="module")
def raced() -> vb.Race:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vbayes.laboratory.against_posterior.DRAWS", 500)
        return run(
            vb.Pair(model, guide, name="correlated"), X, objectives=["stl", vb.WakeSleep(32)], steps=500, seeds=2, evaluations=2,
            learning_rate=0.02, compile=True,
        )  # fmt: skip


@pytest.mark.slow
def test_objectives_are_judged_by_the_posterior(raced):
    """The ELBO shrinks the sds to √(1 − ρ²), on paper; wake-sleep keeps them, and has the larger KL(q ‖ p)."""
    end = raced.to_dataframe().groupby(["estimator", "seed"]).last()
    elbo, wake = end.loc["stl"], end.loc["wake_sleep(32)"]
    assert elbo.kl.to_numpy() == pytest.approx(-0.5 * math.log(1 - RHO**2), abs=0.01)
    assert elbo.sd_error.to_numpy() == pytest.approx(-0.5 * math.log(1 - RHO**2), abs=0.05)
    assert (
        (wake.kl > elbo.kl).all()
        and (wake.forward_kl < elbo.forward_kl).all()
        and (wake.sd_error < elbo.sd_error).all()
    )
    text = raced.verdict()
    assert "After all 500 steps: KL(q ‖ p) is lowest with stl, 0.34 nats per datum (wake_sleep(32) has" in text
    assert "the error of the sds is" in text and "compared by the ELBO" not in text
    assert "kl" in raced.summary() and "kl_se" in raced.summary()


@pytest.mark.slow
def test_it_is_kept_and_drawn(raced, tmp_path):
    again = vb.Race.load(raced.save(tmp_path / "race.json"))
    assert again.verdict() == raced.verdict() and again.against == raced.against != ""
    titles = [ax.get_title(loc="left") for ax in raced.plot().axes if ax.get_visible()]
    assert titles[0] == "KL(q ‖ p) per datum (nats)" and len(titles) == 5
    old = run(vb.pairs.normal_normal(), torch.tensor([0.5, 1.0]), ["stl"], steps=2, seeds=1, evaluations=1)
    assert "kl" not in old.to_dataframe() and old.against == ""


def test_what_may_not_go_together():
    with pytest.raises(vb.errors.BadInput, match="Both estimators= and objectives="):
        run(vb.pairs.normal_normal(), X, ["stl"], objectives=["stl"])
    with pytest.raises(vb.errors.BadInput, match="reference= was given without objectives="):
        run(vb.pairs.normal_normal(), X, ["stl"], reference={"z": np.zeros(3)})
