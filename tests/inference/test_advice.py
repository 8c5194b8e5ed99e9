"""What to do with draws is said in one place: a fit's verdict, its card and its posterior never differ."""

from __future__ import annotations

from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from tests.diagnostics.test_diagnose import LOC, SCALE, X, guided
from tests.diagnostics.test_diagnose import model as conjugate
from tests.models import binary, small_vae
from vbayes.inference.advice import OF_ROWS, Advice
from vbayes.summaries.trained import Training

quiet = {"progress": False, "device": "cpu"}
TYPED = "use a richer guide: vb.fit(model, data, guide='full')"


@pytest.mark.parametrize(
    ("training", "mend"),
    [
        (None, f"train it, vb.fit(pair, data), or {TYPED}"),
        (Training(9, 1.0, False), "train longer: fit.resume()"),
        (Training(9, 1.0, None), f"train longer, fit.resume(), or {TYPED}"),
        (Training(9, 1.0, True), TYPED),
        (Training(9, 1.0, True, lost=6.0), "take a smaller learning rate"),
    ],
)
def test_what_is_to_be_typed_hangs_on_what_has_been_done(training, mend):
    advice = Advice("bad", TYPED, training)
    assert advice.mend.startswith(mend) and f"weighted or not: {mend}" in advice.words()
    assert advice.short() == "bad: do not use the draws"


def test_a_ruined_fit_is_told_what_to_do_whatever_else_is_wrong():
    advice = Advice("bad", TYPED, Training(9, 1.0, lost=6.0), uncovered=("scale",))
    assert "weighted or not: take a smaller learning rate" in advice.words()


def fitted(pair: vb.Pair, **how) -> vb.Fit:
    """As it is: one step that goes nowhere."""
    return vb.fit(pair, X, "stl", steps=1, learning_rate=1e-6, compile=False, **how, **quiet)


@pytest.mark.parametrize(
    ("shift", "width", "trust"),
    [(0.0, 1.0, "good"), (0.0, 0.91, "reweight"), (0.6, 1.0, "reweight"), (4.0, 1.0, "bad")],
)
def test_a_posterior_says_what_the_verdict_says(shift, width, trust):
    """By few draws it would say otherwise of the second: that the draws may be used as they are."""
    fit = fitted(guided(shift, width))
    verdict, found = fit.verdict(), fit.posterior(draws=200, method="guide")
    assert fit.diagnosis.trust == found.trust == trust and fit.diagnosis.advice == found.advice
    assert fit.diagnosis.advice.short() in repr(fit) and fit.diagnosis.advice.short() in repr(found)
    if trust != "good":
        assert found.advice.words() in found.verdict() and fit.diagnosis.advice.words()[:22] in verdict


def test_a_ruined_fit_has_no_draws_to_use():
    """Its guide may be the posterior of a model that is worse than none."""
    fit = fitted(guided())
    rows = [(step, 1, 0.0, -1.0 if step == 1 else -40.0, 1.0) for step in range(1, 101)]
    ruined = replace(fit, rows=rows)
    for words in (ruined.verdict(), replace(fit, rows=rows).posterior(draws=50, method="guide").verdict()):
        assert "Use the draws" not in words and "take a smaller learning rate" in words
    assert fit.diagnose(draws=1000).trust == "good" and ruined.diagnosis.trust == "bad"


def test_the_next_guide_is_one_that_the_fit_does_not_have():
    fit = vb.fit(vb.Pair(conjugate, AutoNormal(conjugate)), X, steps=1, compile=False, **quiet)
    assert "vb.fit(model, data, guide='full')" in replace(fit.diagnose(), trust="bad").verdict()
    own = replace(fitted(guided(4.0)).diagnose(), training=None).verdict()
    assert "vb.fit(model, data) makes one" in own
    rows = vb.diagnose(small_vae(), binary(12), draws=100)
    assert rows.richer == OF_ROWS


def test_nine_of_ten_data_decide_and_the_worst_is_told():
    """As in a verdict: one datum of thirty whose q is far off is no reason to throw all draws away."""

    def local(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        off = torch.zeros(len(x))
        off[0] = pyro.param("off", torch.tensor(4.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2 + off, 0.5**0.5))

    pair, x = vb.Pair(local, guide), torch.linspace(-1.0, 1.0, 30)
    found = vb.posterior(pair, x, draws=200, seed=0)
    assert found.trust == vb.diagnose(pair, x, draws=1000, seed=0).trust == "good" and found.k_hat > 0.7
    assert "of the worst datum" in repr(found) and "Do not use" not in found.verdict()
    assert vb.posterior(pair, x[:3], draws=200, seed=0).trust == "bad", "of three data one is too many"


def test_evidence_that_rests_on_one_draw_says_what_to_do():
    found = vb.log_evidence(fitted(guided(8.0)), num_particles=100, seed=0, **quiet)
    assert (
        "may be far too low: train longer, fit.resume(), or use a richer guide: vb.fit(model, data)" in found.verdict()
    )
    assert vb.log_evidence(guided(), X, num_particles=100, **quiet).mend == "" and LOC > SCALE
