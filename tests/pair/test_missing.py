"""`missing="mask"`: the likelihood is that of what is known, to the last digit, and what would not be is an error."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from vbayes.data.dataset import Batch

NAN = float("nan")


def line(x, y):
    a, b = pyro.sample("a", dist.Normal(0.0, 2.0)), pyro.sample("b", dist.Normal(0.0, 2.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(a + b * x, 0.5), obs=y)


def table(gaps=7, rows=40):
    rng = np.random.default_rng(3)
    x = rng.normal(size=rows)
    y = 1 + 2 * x + rng.normal(size=rows) / 2
    y[:gaps] = np.nan
    return pd.DataFrame({"name": [f"n{i}" for i in range(rows)], "y": y, "x": x}, index=rng.permutation(rows))


def density(pair, data):
    """(value, gradient) at one draw."""
    batch = data.batch(pair.model)
    pair = pair.copy().initialise(batch)
    with pair.look(), torch.enable_grad():
        q, p = pair.run(Batch(batch.args))
        total = p.log_prob_sum()
        return total.item(), [g.tolist() for g in torch.autograd.grad(total, list(pair.leaves.values()))]


def scalars(loc, x):
    with pyro.plate("data", len(x), dim=-2), pyro.plate("features", x.shape[1], dim=-1):
        return pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def rows(loc, x):
    with pyro.plate("data", len(x)):
        return pyro.sample("x", dist.Normal(loc, 1.0).expand([x.shape[1]]).to_event(1), obs=x)


def gammas(loc, x):
    with pyro.plate("data", len(x)):
        return pyro.sample("x", dist.Gamma(loc.exp(), 1.0).expand([x.shape[1]]).to_event(1), obs=x)


def counts(loc, x):
    with pyro.plate("data", len(x), dim=-2):
        return pyro.sample("x", dist.Poisson(loc.exp()), obs=x)


def classes(loc, x):
    with pyro.plate("data", len(x), dim=-2):
        return pyro.sample("x", dist.Categorical(logits=torch.stack([loc, 1 - loc, 2 * loc])), obs=x)


@pytest.mark.parametrize("observed", [scalars, rows, gammas, counts, classes])
def test_density_and_gradient_are_those_of_what_is_known(observed):
    """One by one: the sum over the numbers that are known, and its derivative."""

    def model(x):
        observed(pyro.sample("loc", dist.Normal(0.0, 1.0)), x)

    x = torch.tensor([[1.0, 2.0], [NAN, 1.0], [NAN, NAN], [2.0, NAN]]).double()
    pair = vb.Pair(model, AutoNormal(model)).masked()
    value, gradient = density(pair, vb.Dataset.of({"x": x}))
    known = x[~x.isnan()]
    wanted, slope = density(vb.Pair(model, AutoNormal(model)), vb.Dataset.of({"x": known[:, None]}))
    assert value == pytest.approx(wanted, rel=1e-12) and np.allclose(gradient, slope, rtol=1e-6)


FITS = {
    "until it has converged": {},
    "machine code": {"steps": 30, "compile": True, "guide": AutoNormal(line)},
    "captured": {"steps": 30, "compile": "torch", "guide": AutoNormal(line)},
    "by Pyro": {"steps": 5, "compile": False, "guide": AutoNormal(line)},
}
SLOW = ("until it has converged", "machine code")


@pytest.mark.parametrize(
    "options", [pytest.param(how, marks=[pytest.mark.slow] * (name in SLOW), id=name) for name, how in FITS.items()]
)
def test_the_fit_is_that_of_the_other_rows(options):
    fits = [
        vb.fit(line, data, seed=1, progress=False, **options, **mask)
        for data, mask in ((table(), {"missing": "mask"}), (table().dropna(), {}))
    ]
    first, second = (fit.parameters for fit in fits)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.allclose(value, second[name], rtol=1e-4, atol=1e-5), name


def test_minibatches_speak_for_all_rows():
    """The mean over an epoch's minibatches is what all rows say."""
    data = vb.Dataset.of(table())
    pair = vb.Pair(line, AutoNormal(line)).masked().initialise(data.batch(line))

    def said(index, total):
        with pair.look(), torch.no_grad():
            _, p = pair.run(Batch(data.batch(pair.model, index).args, total))
            p.compute_log_prob()
            return float(p.nodes["y"]["log_prob_sum"])

    parts = [said(index, 40) for index in torch.arange(40).split(8)]
    assert sum(parts) / 5 == pytest.approx(said(None, None), rel=1e-5)


def test_it_goes_on_from_a_file(tmp_path):
    pair = vb.Pair(line, AutoNormal(line))
    fit = vb.fit(pair, table(), missing="mask", steps=4, progress=False)
    fit.save(tmp_path / "fit.safetensors")
    again = vb.Fit.load(tmp_path / "fit.safetensors", pair.masked(), table())
    one, other = (each.resume(steps=2, progress=False).rows.elbo for each in (again, fit))
    assert list(one) == list(other) and len(one) == 6


def in_x_too():
    return table().assign(x=lambda t: t.x.where(t.x < 1))


def centred(x, y):
    line(x, y - y.mean())


def joint(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.MultivariateNormal(loc.expand(2), torch.eye(2)), obs=x)


def observed_and_used(x, y):
    with pyro.plate("rows", len(x)):
        x = pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
    line(x, y)


JOINT = {"x": np.array([[1.0, 2.0], [np.nan, 1.0], [0.0, 1.0]])}
WRONG = {
    "not masked": (line, table(), {}, "'y' of 'data' has NaN or infinite values in 7 of 40 rows .* missing=\"mask\""),
    "counts of each column": (line, in_x_too(), {}, r"'x' of .* in 6 of 40 rows, column 'y' of .* in 7 of 40 rows"),
    "what is not observed": (line, in_x_too(), {"missing": "mask"}, "other than as an observed value"),
    "observed, and used": (observed_and_used, in_x_too(), {"missing": "mask"}, "other than as an observed value"),
    "what is not observed, of the same rows": (
        line,
        table().assign(x=lambda t: t.x.where(t.y.notna())),
        {"missing": "mask"},
        "reach the gradient of",
    ),
    "the whole column": (centred, table(), {"missing": "mask"}, "7 values, but at site 'y' 40 are missing"),
    "a part of a row": (joint, JOINT, {"missing": "mask"}, "joint distribution, MultivariateNormal"),
}


@pytest.mark.parametrize("word", [True, False], ids=["a guide by a word", "a guide"])
@pytest.mark.parametrize("case", WRONG)
def test_what_can_not_be_left_out(case, word):
    model, data, how, said = WRONG[case]
    with pytest.raises(vb.errors.BadData, match=f"(?s){said}"):
        vb.fit(model if word else vb.Pair(model, AutoNormal(model)), data, steps=5, progress=False, **how)


def test_a_gap_in_a_covariate_is_not_answered_by_the_mask_that_is_there():
    """Also where the outcome is of integers, which have no gaps."""

    def slope(x, n):
        rate = pyro.sample("rate", dist.Gamma(1.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("n", dist.Poisson(rate * x.exp()), obs=n)

    data = {"x": torch.tensor([0.0, NAN, 1.0]), "n": torch.tensor([1, 0, 2])}
    with pytest.raises(vb.errors.BadData, match="Column 'x'.*row 1.*missing=\"mask\" leaves out only observed"):
        vb.check(slope, data, missing="mask")
    counts = {"x": torch.zeros(3), "n": torch.tensor([1.0, NAN, 2.0])}
    assert vb.check(slope, counts, missing="mask", show=False).sites[-1].in_guide == "observed"
