"""Which of several models data are from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vbayes as vb
from vbayes.inference.compare_models import ModelComparison
from vbayes.inference.evidence import Evidence


def models() -> tuple[dict[str, vb.Fit], torch.Tensor]:
    with vb.seeded(0):
        weight = torch.randn(6, 2)
        x = torch.randn(300, 2) @ weight.T + 0.3 * torch.randn(300, 6)
    fits = {
        f"{j}": vb.fit(vb.pairs.probabilistic_pca(6, j), x[:200], epochs=1500, learning_rate=2e-2, progress=False)
        for j in (1, 2)
    }
    return fits, x[200:]


def test_two_factors_made_the_data():
    fits, new = models()
    found = vb.compare_models(fits, new)
    table = found.to_dataframe()
    assert table.model.tolist() == ["2", "1"] and table.direction.tolist() == ["exact", "exact"]
    assert "beats 1 by" in found.verdict() and "lower bound" not in found.verdict()
    exact = []
    for fit in fits.values():
        with fit.pair.scope(), torch.no_grad():
            exact.append(float(fit.pair.exact.log_evidence(new)))
    assert table.behind.iloc[1] == pytest.approx(exact[1] - exact[0])
    bound = vb.compare_models(fits, new, method="iw", num_particles=500, progress=False)
    assert abs(bound.to_dataframe().behind.iloc[1] - table.behind.iloc[1]) < 5 * bound.to_dataframe().se.sum()
    assert "lower bounds" in bound.verdict()


def test_the_same_model_twice_can_not_be_told_apart():
    fits, new = models()
    assert "can't be distinguished from" in vb.compare_models({"a": fits["2"], "b": fits["2"]}, new).verdict()


def test_bayes_rule_over_classes():
    """Two Gaussians one apart: the probability of a class is the logistic function of the difference of their log-densities."""
    pairs = {name: vb.pairs.probabilistic_pca(1, 1) for name in ("low", "high")}
    x = torch.linspace(-2, 3, 11)[:, None]
    fixed = {}
    for (name, pair), mean in zip(pairs.items(), (0.0, 1.0), strict=True):
        pair.initialise(vb.Batch((x,)))
        fixed[name] = pair.load(
            {"offset": torch.tensor([mean]), "weight": torch.tensor([[0.6]]), "scale": torch.tensor(0.8).log()}
        )
    found = vb.compare_models(fixed, x, method="iw", num_particles=2000, prior={"low": 1, "high": 3}, progress=False)
    expected = 1 / (1 + 3 * np.exp(x[:, 0].numpy() - 0.5))
    np.testing.assert_allclose(found.probabilities()["low"], expected, atol=0.03)
    assert found.classify().tolist() == ["low" if p > 0.5 else "high" for p in found.probabilities()["low"]]


def test_what_can_not_be_compared():
    fits, new = models()
    with pytest.raises(vb.errors.BadInput, match="at least two"):
        vb.compare_models({"a": fits["1"]}, new)
    with pytest.raises(vb.errors.BadInput, match="for each of '1', '2'"):
        vb.compare_models(fits, new, prior={"1": 1.0})
    schools = vb.fit(vb.pairs.eight_schools(), vb.data.eight_schools(), steps=5, progress=False)
    found = vb.compare_models({"a": schools, "b": schools}, vb.data.eight_schools(), method="elbo", progress=False)
    with pytest.raises(vb.errors.Unsuitable, match="no separate evidence for each row"):
        found.classify()


def test_of_equal_models_one_is_seldom_called_worse():
    """Of five, judged by twelve rows each: in 5 % of cases at most, where two standard errors did so in more than a fifth."""
    rng, cases, worse, by_two = np.random.default_rng(0), 500, 0, 0
    for _ in range(cases):
        rows = rng.standard_normal((5, 12))
        made = {str(i): Evidence(own.sum(), 0.0, "exact", own.sum(), own.sum(), "", "", "", 12, own) for i, own in enumerate(rows)}  # fmt: skip
        found = ModelComparison(made, dict.fromkeys(made, 0.2))
        table = found.to_dataframe().iloc[1:]
        worse += "it beats" in found.verdict()
        by_two += (table.behind > 2 * table.behind_se).any()
    assert 0.005 < worse / cases < 0.05 + 4 * (0.05 * 0.95 / cases) ** 0.5
    assert by_two / cases > 0.2
