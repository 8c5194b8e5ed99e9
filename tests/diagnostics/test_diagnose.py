"""The rule of trust, on posteriors that are known: every one of its parts has a case that needs it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib import pyplot
from pyro.infer.autoguide import AutoDelta, AutoNormal, init_to_value

import vbayes as vb
from tests.models import binary, small_vae
from vbayes.export import arviz as export
from vbayes.inference.psis import smoothed
from vbayes.training.verbs import VERBS, verb

X = torch.tensor([1.0, 2.0, 3.0])
SIZE = 3  # latents
LOC, SCALE = float(X.sum()) / 4, 0.5  # of the posterior of z under N(0, 1) given three data at unit noise


def model(x):
    z = pyro.sample("z", dist.Normal(x.new_zeros(SIZE), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x[:, None].expand(-1, SIZE))


def guided(shift: float = 0.0, width: float = 1.0, *, first: float | None = None) -> vb.Pair:
    """The posterior itself, shifted by so many of its sds (all latents, or the first alone), and of so many times its width."""
    move = torch.full((SIZE,), shift)
    if first is not None:
        move = torch.tensor([first] + [0.0] * (SIZE - 1))

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("loc", LOC + SCALE * move), SCALE * width).to_event(1))

    return vb.Pair(model, guide, name="conjugate")


@pytest.mark.parametrize(
    ("method", "width", "infinite"),
    [
        (vb.CUBO(8), 0.65, True),  # k̂ is 1 − width² = .58: no second moment
        (vb.CUBO(8), 1.0, False),
        (vb.CUBO(8, order=1.5), 0.65, False),  # that has 1/k̂ = 1.7 moments
        (vb.STL(), 0.65, False),
    ],
)
def test_an_upper_bound_is_not_believed_where_it_is_infinite(method, width, infinite):
    fit = vb.fit(guided(width=width), X, method, steps=1, learning_rate=1e-4, compile=False, progress=False)
    found = vb.diagnose(fit, draws=20_000, seed=0)
    assert found.infinite == infinite
    assert ("−CUBO(8) can't be trusted: from k̂ = 0.50 on" in found.verdict()) == infinite
    assert ("infinite, or can't be estimated: k̂ ≥ 0.50" in repr(found)) == infinite
    assert ("can be infinite, which no value shows: see fit.diagnose()" in repr(fit)) == (method.bound == "CUBO")  # fmt: skip


@pytest.mark.parametrize(("rho", "sd", "k_hat"), [(0.5, 0.82, 0.878), (0.0, 1.0, 0.0)])
def test_a_factored_guide_of_ten_correlated_latents_has_no_cubo(rho, sd, k_hat):
    """At the sds where training by `CUBO` ends. q would have to be wider than √((1 + 9 ρ)/2) = 1.66, and the weights have k̂ = 1 − sd² / (1 + 9 ρ)."""
    root = torch.linalg.cholesky((1 - rho) * torch.eye(10) + rho)

    def model(x):
        pyro.sample("z", dist.MultivariateNormal(torch.zeros(10), scale_tril=root))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    pair = vb.Pair(model, AutoNormal(model, init_loc_fn=init_to_value(values={"z": torch.zeros(10)}), init_scale=sd))
    fit = vb.fit(pair, torch.zeros(2), vb.CUBO(), steps=1, learning_rate=1e-4, compile=False, progress=False)
    found = vb.diagnose(fit, draws=50_000, seed=0)
    assert found.infinite == ("guide='full'" in found.verdict()) == (rho > 0)
    assert abs(found.k_hat - k_hat) < 4 * found.k_hat_se + 0.05


@pytest.mark.parametrize(
    ("shift", "width", "trust"),
    [
        (0.0, 1.0, "good"),
        (0.03, 1.02, "good"),
        (0.0, 2.0, "reweight"),  # too wide, to which k̂ is blind
        (0.0, 0.91, "reweight"),  # worth nine tenths of their number, but a tenth too narrow
        (0.0, 0.4, "bad"),  # the weights of too narrow a guide have the tail 1 − width²
        (0.6, 1.0, "reweight"),
        (4.0, 1.0, "bad"),
    ],
)
def test_a_guide_beside_a_known_posterior(shift, width, trust):
    found = vb.diagnose(guided(shift, width), X)
    assert found.trust == trust and found.draws == 50_000
    words = {"good": "Use the draws.", "reweight": "method='psis'", "bad": "Do not use the draws"}
    assert words[trust] in found.verdict() and trust in repr(found) and len(repr(found).splitlines()) <= 7
    table = found.sites.set_index("element")
    if trust != "bad":
        for element in table.index:
            row = table.loc[element]
            se = found.effective**-0.5 / width
            assert abs(row.moved + shift / width) < 5 * se and abs(row.sd_ratio - 1 / width) < 5 * se
        assert abs(found.log_evidence - _evidence()) < 5 * found.log_evidence_se + 1e-4


def _evidence() -> float:
    covariance = torch.eye(3) + torch.ones(3, 3)
    return SIZE * float(dist.MultivariateNormal(torch.zeros(3), covariance).log_prob(X))


def test_the_exact_posterior_has_weights_that_are_all_alike():
    found = vb.diagnose(guided(), X)
    assert found.k_hat == 0.0 and found.effective == pytest.approx(found.draws, rel=1e-4)
    assert found.elbo == pytest.approx(_evidence(), abs=1e-3) and found.above == 0.0


def test_one_latent_off_is_seen_though_the_effective_number_is_high():
    found = vb.diagnose(guided(first=0.3), X)
    assert found.effective > 0.85 * found.draws and found.trust == "reweight"
    assert "z[0] by -0.3" in found.verdict() and found.sites.element[0] == "0"


def test_k_hat_has_the_error_that_it_says():
    """Pareto weights of shape ½: over 60 sets of draws k̂ is as far from itself as stated."""
    with vb.seeded(0):
        log_w = 0.5 * dist.Exponential(1.0).sample((20_000, 60)).double()
    found = smoothed(log_w)
    assert float(found.k_hat.mean()) == pytest.approx(0.5, abs=5 * float(found.k_hat.std()) / 60**0.5 + 0.01)
    assert float(found.k_hat.std()) == pytest.approx(float(found.k_hat_se.mean()), rel=0.35)


def test_smoothing_is_arvizs_datum_by_datum():
    with vb.seeded(0):
        log_w = torch.randn(500, 2, 3).double() * 2
    found = smoothed(log_w)
    right, k = export.psis(log_w[:, 1, 2].numpy())
    np.testing.assert_allclose(found.log_w[:, 1, 2].numpy(), right)
    assert float(found.k_hat[1, 2]) == pytest.approx(float(k))
    torch.testing.assert_close(found.log_w.logsumexp(0), torch.zeros(2, 3, dtype=torch.float64))
    assert float(found.effective[1, 2]) == pytest.approx(1 / float(np.exp(2 * right).sum()))


def test_weights_that_are_no_numbers():
    with vb.seeded(0):
        log_w = torch.randn(100, 4).double()
    log_w[3, 0], log_w[5, 1], log_w[:, 2], log_w[7, 3] = math.nan, math.inf, -math.inf, -math.inf
    found = smoothed(log_w)
    assert found.k_hat.isinf().tolist() == [True, True, True, False]
    assert found.effective[:3].tolist() == [0.0, 0.0, 0.0] and float(found.effective[3]) > 1
    assert found.log_w[:, [0, 3]].logsumexp(0).abs().max() < 1e-9


def test_a_model_that_breaks_at_some_draws():
    def broken(x):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.factor("root", (z + 2).sqrt())

    pair = vb.Pair(broken, lambda x: pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0)))
    found = vb.diagnose(pair, X, draws=2000)
    assert found.trust == "bad" and 10 < found.not_finite < 100  # two in a hundred lie below −2
    assert "have a weight that is not finite" in found.verdict()


def test_a_point_has_no_spread():
    fit = vb.fit(vb.Pair(model, AutoDelta(model)), X, steps=2, progress=False)
    found = vb.diagnose(fit)
    assert found.trust == "bad" and found.points and "a point without spread" in found.verdict()
    pyplot.close(found.plot())


def test_a_guide_that_leaves_something_out():
    def guide(x):
        low = pyro.param("low", torch.full((SIZE,), LOC - 3 * SCALE))
        pyro.sample("z", dist.Uniform(low, low + 6 * SCALE).to_event(1))

    with pytest.warns(UserWarning, match="the support of the guide's Uniform is smaller"):
        found = vb.diagnose(vb.Pair(model, guide), X)
    assert found.trust == "bad" and found.k_hat < 0.5 and "can't draw all values that site 'z'" in found.verdict()


def test_an_exact_answer_hides_nothing():
    pair, batch = vb.pairs.TRACTABLE["normal_normal"].pair(), vb.pairs.TRACTABLE["normal_normal"].batch()
    far = pair.load({"loc": torch.full((2,), 6.0)})
    assert far.exact is not None and vb.diagnose(far, *batch.args).trust == "bad"


def test_data_with_latents_of_their_own_are_judged_one_by_one():
    fit = vb.fit(small_vae(), binary(60), "stl", steps=40, learning_rate=0.01, progress=False)
    found = vb.diagnose(fit, draws=500)
    assert found.each is not None and len(found.each) == 60 == found.rows
    below = (found.each.k_hat <= found.k_hat).mean()
    assert below >= 0.9 > (found.each.k_hat < found.k_hat).mean()
    assert (found.each.effective >= found.effective).mean() >= 0.9
    assert "Of 60 data" in found.verdict() and "k̂ ≥ 0.7" in repr(found)


def test_of_many_data_some_are_looked_at(monkeypatch):
    monkeypatch.setattr("vbayes.diagnostics.diagnose.ROWS", 20)
    found = vb.diagnose(small_vae(), binary(30), draws=100)
    assert found.rows == 20 == len(found.each)
    monkeypatch.setattr("vbayes.diagnostics.diagnose.WEIGHTS", 12 * 1100)
    assert vb.diagnose(small_vae(), binary(12)).draws == 1100, "all of them are smoothed"


@dataclass
class Trained:
    """What a fit that tested its convergence has."""

    pair: vb.Pair
    data: vb.Dataset
    converged: bool | None
    convergence: Any = field(init=False)

    @property
    def history(self) -> pd.DataFrame:
        return pd.DataFrame({"elbo_per_datum": [-1.0, -1.0], "seconds": [0.5, 1.25]})

    def __post_init__(self) -> None:
        self.convergence = SimpleNamespace(converged=self.converged, reason="R̂ below 1.01")


@pytest.mark.parametrize(
    ("converged", "words", "mend"),
    [
        (
            True,
            "Converged after 2 steps in 1.2 s (R̂ below 1.01). ",
            ": use a richer guide: vb.fit(model, data) makes one.",
        ),
        (False, "Not converged after 2 steps", ": train longer: fit.resume()."),
        (
            None,
            "convergence was not tested",
            ": train longer, fit.resume(), or use a richer guide: vb.fit(",
        ),
    ],
)
def test_what_training_says_of_itself(converged, words, mend):
    found = vb.diagnose(Trained(guided(4.0), vb.Dataset({"x": X}), converged))
    assert found.converged is converged and words in found.verdict() and mend in found.verdict()


def test_a_fit_asks_for_itself():
    """Once, unless asked again; of other data nothing is kept; `print` costs nothing and says nothing that nobody has looked at."""
    fit = vb.fit(guided(0.6), X, "stl", steps=1, learning_rate=1e-6, progress=False)
    assert fit.diagnosis is None and "trust" not in repr(fit)
    fit.diagnose(X + 1.0)
    assert fit.diagnosis is None
    verdict = fit.verdict()
    assert verdict == fit.diagnosis.verdict() == fit.verdict() and "reweight: use weighted draws" in repr(fit)
    assert fit.diagnose(draws=200) is fit.diagnosis and fit.diagnosis.draws == 200
    assert fit.posterior(draws=50).method == "psis" and fit.posterior(draws=50, method="guide").method == "guide"
    right = vb.fit(guided(), X, "stl", steps=1, learning_rate=1e-6, progress=False)
    assert right.posterior(draws=50).method == "guide"
    assert fit.resume(steps=1, progress=False).diagnosis is None, "another fit is not the one that was looked at"


def test_what_a_fit_offers_of_other_rooms_is_there():
    for name in VERBS:
        assert verb(name) is getattr(vb, name) and hasattr(vb.Fit, name)


def test_the_figure():
    fit = vb.fit(guided(), X, "stl", steps=30, progress=False)
    for found, panels in (
        (vb.diagnose(fit), 3),
        (vb.diagnose(guided(0.6), X), 2),
        (vb.diagnose(small_vae(), binary()), 2),
    ):
        figure = found.plot()
        assert len(figure.axes) == panels
        line = figure.axes[1].containers[0].lines[0].get_xdata().astype(float)
        np.testing.assert_allclose(line[::-1], found.sites.moved.head(12))
        pyplot.close(figure)


def centred(y, sigma):
    mu = pyro.sample("mu", dist.Normal(y.new_zeros(()), 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(y.new_tensor(5.0)))
    with pyro.plate("data", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def funnel(x):
    v = pyro.sample("v", dist.Normal(x.new_zeros(()), 3.0))
    pyro.sample("z", dist.Normal(x.new_zeros(9), (v / 2).exp()).to_event(1))


@pytest.mark.slow
@pytest.mark.parametrize("make", [centred, funnel])
def test_a_bad_guide_is_bad_at_any_seed(make):
    data = vb.data.eight_schools() if make is centred else X
    fit = vb.fit(vb.Pair(make, AutoNormal(make)), data, "stl", steps=4000, learning_rate=0.02, progress=False)
    assert [vb.diagnose(fit, seed=seed).trust for seed in range(20)] == ["bad"] * 20


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vb.diagnose(guided(), X, draws=10), "draws=10 is below 100. Wanted: an integer of at least 100"),
        (lambda: vb.diagnose(guided()), "data=None"),
        (lambda: vb.diagnose(vb.Pair(lambda x: pyro.sample("x", dist.Normal(pyro.param("m", torch.zeros(())), 1.0), obs=x.mean()), lambda x: None), X), "has no latents"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        call()


def test_a_flow_without_an_inverse_is_judged_by_its_own_draws():
    """Its density is known where it was drawn, which is all that weights ask for; it is no point."""

    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x)

    with vb.seeded(0):
        flow = pyro.distributions.transforms.planar(2)

    def guide(x):
        pyro.module("flow", flow)
        pyro.sample("z", dist.TransformedDistribution(dist.Normal(torch.zeros(2), torch.ones(2)), [flow]))

    found = vb.diagnose(vb.Pair(model, guide), torch.ones(1), draws=1000)
    assert not found.points and math.isfinite(found.k_hat) and found.draws == 1000
