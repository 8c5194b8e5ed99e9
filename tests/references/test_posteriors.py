"""The models of the reference posteriors: each is the one that its reference draws are of."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chi2

import vbayes as vb
from experiments.references import files, languages
from experiments.references.density import Density
from experiments.references.posteriors import POSTERIORS, Posterior

pytestmark = [
    pytest.mark.usefixtures("no_download"),
    pytest.mark.skipif(
        not os.environ.get("VBAYES_DATA"), reason="REFERENCES NOT TESTED: set VBAYES_DATA to a folder with posteriordb/"
    ),
]
TOO_SLOW = {"arK-arK", "diamonds-diamonds"}


def mean_score(posterior: Posterior, *, every: int = 1, language=None) -> tuple[np.ndarray, float]:
    """z of the mean of ∇ log p over the reference draws, entry by entry, and the p-value of all together.

    E_p ∇ log p = 0 in unconstrained coordinates, for the right density alone; the reference draws are as good as independent.
    """
    reference = {name: values[:, ::every] for name, values in posterior.reference.items()}
    sites = posterior.sites(reference)
    for name in posterior.derived(sites):
        del sites[name]
    args = tuple(torch.tensor(column) for column in posterior.data.values())
    density = Density(posterior.formula(language or languages.pyro()), args, sites)
    scores = density.scores(density.flat(sites))
    mean, spread = scores.mean(0), torch.cov(scores.T) / len(scores)
    together = float(mean @ torch.linalg.solve(spread, mean))
    return (mean / spread.diagonal().sqrt()).numpy(), float(chi2.sf(together, len(mean)))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in TOO_SLOW else ()) for name in POSTERIORS]
)
def test_the_score_has_mean_zero(name):
    """One entry in ten thousand is beyond 4 standard errors, and there are some eighty."""
    z, together = mean_score(POSTERIORS[name])
    assert np.abs(z).max() < 4 and together > 1e-3


@pytest.mark.parametrize("name", sorted(TOO_SLOW))
def test_the_score_has_mean_zero_over_fewer_draws(name):
    z, together = mean_score(POSTERIORS[name], every=10)
    assert np.abs(z).max() < 4 and together > 1e-3


def test_another_model_is_caught():
    """σ as a standard deviation in the Gaussian process, and a prior of μ that is half as wide in the schools."""
    right = languages.pyro()
    wrong = replace(right, eye=lambda n, like: 2 * right.eye(n, like))
    assert np.abs(mean_score(POSTERIORS["gp_pois_regr-gp_regr"], every=10, language=wrong)[0]).max() > 5
    narrow = replace(
        right,
        like=lambda array, shape, value: right.like(array, shape, 2.5 if value == 5.0 else value),
    )
    name = "eight_schools-eight_schools_noncentered"
    assert np.abs(mean_score(POSTERIORS[name], every=10, language=narrow)[0]).max() > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", POSTERIORS)
def test_numpyro_has_the_same_density(name):
    """Up to one constant, at a few reference draws; in float32, as NumPyro has it."""
    pytest.importorskip("numpyro")
    import jax.numpy as jnp
    from numpyro.infer.util import log_density

    posterior = POSTERIORS[name]
    sites = posterior.sites({key: values[:1, :4] for key, values in posterior.reference.items()})
    for derived in posterior.derived(sites):
        del sites[derived]
    columns = posterior.data.values()
    density = Density(posterior.formula(languages.pyro()), tuple(map(torch.tensor, columns)), sites)
    ours = [float(density.log_p({k: torch.tensor(v[i]) for k, v in sites.items()})) for i in range(4)]
    args, model = tuple(map(jnp.asarray, columns)), posterior.formula(languages.numpyro())
    theirs = [
        float(log_density(model, args, {}, {k: jnp.asarray(v[i]) for k, v in sites.items()})[0]) for i in range(4)
    ]
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), atol=0.02, rtol=2e-3)


@pytest.mark.parametrize("name", POSTERIORS)
def test_parameters_come_back(name):
    """Reference → sites → reference."""
    posterior = POSTERIORS[name]
    reference = posterior.reference
    assert all(values.shape == (10, 1000) for values in reference.values())
    back = posterior.parameters(posterior.sites(reference), reference)
    assert list(back) == list(reference)
    for key, values in reference.items():
        np.testing.assert_allclose(back[key], values.reshape(-1), rtol=1e-12)


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    place = tmp_path / "posteriordb" / "draws" / "sblrc-blr.json.zip"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"no draws")
    monkeypatch.setenv("VBAYES_DATA", str(tmp_path))
    with pytest.raises(vb.errors.DataUnavailable, match="is not the expected file"):
        files.draws("sblrc-blr")
