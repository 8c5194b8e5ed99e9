"""Whether a fit is worse than none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import vbayes as vb
from vbayes.summaries.trained import Training, lost


def test_a_loss_is_told_from_noise():
    noise = np.random.default_rng(0).normal(size=200)
    fell = np.concatenate([[-40.0], -100 + noise])
    assert lost(fell) == pytest.approx(60, abs=1)
    assert lost(-40 + noise) == 0.0  # as it began
    assert lost(np.concatenate([[-40.0], -40.5 + 0.01 * noise])) == 0.0  # less than a nat
    assert lost(np.linspace(-100, -40, 200)) == 0.0 and lost(fell[:30]) == 0.0 and lost(np.zeros(0)) == 0.0
    assert (
        lost(np.concatenate([[-40.0], -100 + 60 * noise])) == 0.0
    )  # some of the last values are better than the first


def test_a_ruined_fit_is_told_as_one():
    words = Training(54, 0.2, None, lost=112.4).words()
    assert words.startswith("Ruined: the ELBO ends 112 nats per datum below") and "Stopped after 54 steps" in words
    assert "Ruined" not in Training(54, 0.2, None).words()
    assert Training(54, 0.2, None).short().endswith("not tested for convergence")
    assert Training(54, 0.2, None, "settled after 54 steps in 1 s: no more").short() == "54 steps, 0.2 s, settled"


def test_the_verdict_says_so():
    """Of a history that falls; a bound that may fall on purpose is not called ruined for it."""
    fit = vb.fit(
        vb.pairs.normal_normal(), vb.data.normal_normal(), steps=50, learning_rate=0.01, seed=0, progress=False
    )
    rows = [(*row[:3], -3.0 if row[0] == 1 else -9.0, row[4]) for row in fit.rows]
    ruined = replace(fit, rows=rows)
    assert ruined.diagnose(seed=0).verdict().startswith("Ruined: the ELBO ends 6 nats")
    assert (
        "Ruined" not in replace(ruined, estimator=vb.CUBO()).diagnose(seed=0).verdict() + fit.diagnose(seed=0).verdict()
    )
