"""What is followed has its name wherever it is shown: in cards, bars and axes."""

from __future__ import annotations

import sys

import pytest
import torch
from matplotlib import pyplot
from pyro.infer import RenyiELBO, Trace_ELBO

import vbayes as vb
from vbayes.estimators import followed
from vbayes.training.history import trend

X = torch.tensor([0.5, 1.5])


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (vb.STL(4), "ELBO"), (vb.Beta(beta=2.0), "ELBO"), (vb.IWAE(64), "IWAE(64)"), (vb.DReG(8), "IWAE(8)"), (vb.CUBO(32), "−CUBO(32)"), (vb.Renyi(8), "Rényi(8)"),
        (vb.Fisher(), "−Fisher divergence"), (Trace_ELBO(), "ELBO"), (RenyiELBO(alpha=0.5, num_particles=2), "RenyiELBO(2)"),
    ],
)  # fmt: skip
def test_by_its_name_and_its_number_of_particles(estimator, words):
    assert followed(estimator) == words


def test_a_fit_says_it_everywhere():
    fit = vb.fit(vb.pairs.normal_normal(), X, vb.IWAE(8), steps=30, compile=False, progress=False)
    assert fit.bound == "IWAE(8)" and "IWAE(8)" in repr(fit) and "ELBO" not in repr(fit)
    assert trend(fit.rows, fit.bound).startswith("IWAE(8) per datum -")
    ax = fit.plot()
    assert ax.get_ylabel() == "IWAE(8) per datum (nats)" and ax.get_title(loc="left").startswith("IWAE(8) during")
    figure = fit.diagnose(draws=100).plot()
    assert figure.axes[-1].get_ylabel() == "IWAE(8) per datum (nats)"
    pyplot.close("all")


def test_what_is_lowered_has_the_other_sign():
    """The history rises, and is minus the upper bound, which lies above log p(x)."""
    fit = vb.fit(vb.pairs.normal_normal(), X, vb.CUBO(8), steps=1, compile=False, progress=False)
    assert fit.bound == "−CUBO(8)" and fit.rows[0][2] > 0 > vb.log_evidence(fit).value


def test_so_does_its_bar(monkeypatch, capfd):
    monkeypatch.setattr(sys.modules["vbayes.progress.lines"].Lines, "first", 0.0)
    vb.fit(vb.pairs.normal_normal(), X, vb.IWAE(8), steps=30, compile=False)
    assert "IWAE(8) per datum" in capfd.readouterr().err
