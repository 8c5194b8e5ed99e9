"""Updates in a fit: the same steps by Pyro and as a program, resumed to the last bit, and refused where they can't be taken."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDiagonalNormal, AutoLowRankMultivariateNormal, AutoMultivariateNormal, AutoNormal

import vbayes as vb
from vbayes.errors import BadInput, Unsuitable
from vbayes.updates.normals_of import normals_of

D = 3
X = torch.randn(20, D, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([1.0, -1.0, 0.5]) + 0.3
DATA = vb.Dataset({"x": X, "y": Y})
quiet = {"progress": False, "device": "cpu", "seed": 0}


def model(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(D), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def learnt(x, y):
    shift = pyro.param("shift", lambda: torch.tensor(0.0))
    model(x, y - shift)


def by_hand(x, y):
    scale = pyro.param("c", lambda: torch.eye(D), constraint=dist.constraints.lower_cholesky)
    pyro.sample("w", dist.MultivariateNormal(pyro.param("m", lambda: torch.zeros(D)), scale_tril=scale))


def posterior() -> torch.distributions.MultivariateNormal:
    precision = torch.eye(D) + 4 * X.T @ X
    mean = torch.linalg.solve(precision, 4 * X.T @ Y)
    return torch.distributions.MultivariateNormal(mean, precision_matrix=precision)


def divergence(fit: vb.Fit) -> float:
    """KL(q ‖ p), of a guide without a root of its own."""
    with fit.pair.scope():
        (normal,) = normals_of(fit.pair, fit.data.batch(fit.pair.model))
        loc, root = normal.read(*(fit.pair.leaves[name].detach() for name in normal.names))
    q = torch.distributions.MultivariateNormal(loc, scale_tril=root)
    return float(torch.distributions.kl.kl_divergence(q, posterior()))


GUIDES = {
    "by hand": (by_hand, [("m", "c")]),
    "AutoNormal": (AutoNormal(model), [("AutoNormal.locs.w", "AutoNormal.scales.w")]),
    "AutoDiagonalNormal": (AutoDiagonalNormal(model), [("AutoDiagonalNormal.loc", "AutoDiagonalNormal.scale")]),
    "diagonal": ("diagonal", [("Diagonal.loc", "Diagonal.scale")]),
    "full": ("full", [("Full.loc", "Full.scale_tril")]),
    "AutoMultivariateNormal": (
        AutoMultivariateNormal(model), [tuple(f"AutoMultivariateNormal.{n}" for n in ("loc", "scale", "scale_tril"))],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("guide", "names"), GUIDES.values(), ids=GUIDES)
def test_a_guides_normals_are_found(guide, names):
    pair = vb.Pair(model, guide)
    batch = DATA.batch(pair.model)
    pair.initialise(batch)
    with pair.scope():
        found = normals_of(pair, batch)
    assert [normal.names for normal in found] == names
    assert all(normal.full == (names[0][-1][-1] in "cl") for normal in found)


@pytest.mark.slow
def test_a_program_takes_the_steps_that_pyro_takes():
    """At the optimum sticking the landing has no noise, so both come to the posterior itself."""
    options = {"update": vb.NaturalGradient(rate=0.3), "steps": 60, **quiet}
    fits = [
        vb.fit(vb.Pair(model, by_hand), DATA, vb.STL(4, noise="antithetic"), compile=compile, **options)
        for compile in (False, True)
    ]
    assert [fit.engine.split(":")[0] for fit in fits] == ["Pyro", "native"]
    assert [divergence(fit) for fit in fits] == pytest.approx([0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_resumed_it_is_the_same_to_the_last_bit(tmp_path, compile):
    """What is no normal's parameter goes on with Adam's memory."""
    update = vb.NaturalGradient(rate=0.05)
    pair = vb.Pair(learnt, by_hand)
    options = {"update": update, "learning_rate": 0.01, "compile": compile, **quiet}
    whole = vb.fit(pair, DATA, steps=6, **options)
    half = vb.fit(pair, DATA, steps=3, **options)
    kept = vb.Fit.load(half.save(tmp_path / "fit.safetensors"), pair, DATA)
    for resumed in (half, kept):
        again = resumed.resume(steps=3, progress=False)
        assert again.history.elbo.equals(whole.history.elbo)
        assert all(torch.equal(again.parameters[name], value) for name, value in whole.parameters.items())
    assert float(whole.parameters["shift"]) != 0.0 and kept.optimizer == update and "rate=0.05" in str(kept)


@pytest.mark.parametrize(
    "update", [vb.BatchAndMatch(8), pytest.param(vb.ScoreMatching(8), marks=pytest.mark.slow)], ids=["bam", "gsm"]
)
def test_scores_alone_come_to_a_normal_posterior(tmp_path, update):
    pair = vb.Pair(model, AutoMultivariateNormal(model, init_scale=1.0))
    whole = vb.fit(pair, DATA, steps=40, update=update, **quiet)
    assert divergence(whole) < 1e-5 and whole.steps == 40
    exact = posterior()
    there = exact.log_prob(exact.mean)  # log p(y) = log p(y, w) − log p(w | y), whatever w
    joint = pyro.poutine.trace(pyro.poutine.condition(model, {"w": exact.mean})).get_trace(X, Y).log_prob_sum()
    assert whole.rows[-1][2] == pytest.approx(float(joint - there), abs=1e-3)
    half = vb.fit(pair, DATA, steps=15, update=update, **quiet)
    kept = vb.Fit.load(half.save(tmp_path / "fit.safetensors"), pair, DATA)
    assert "estimator" not in str(kept) and repr(update) in str(kept)
    again = kept.resume(steps=25, progress=False)
    assert again.history.elbo.equals(whole.history.elbo)
    assert all(torch.equal(again.parameters[name], value) for name, value in whole.parameters.items())


@pytest.mark.slow
def test_scores_in_machine_code_are_the_same_but_for_rounding(tmp_path):
    pair = vb.Pair(model, AutoMultivariateNormal(model, init_scale=1.0))
    options = {"update": vb.BatchAndMatch(8), **quiet}
    plain, quick = (vb.fit(pair, DATA, steps=6, compile=compile, **options) for compile in (False, True))
    assert plain.history.elbo.tolist() == pytest.approx(quick.history.elbo.tolist(), rel=1e-3)
    assert [fit.engine for fit in (plain, quick)] == ["interpreted: not asked for", "native"]
    again = vb.fit(pair, DATA, steps=3, compile=True, **options).resume(steps=3, progress=False)
    assert again.history.elbo.equals(quick.history.elbo)


def test_a_checkpoint_is_of_one_update(tmp_path):
    path = tmp_path / "fit.safetensors"
    options = {"checkpoint": path, **quiet}
    vb.fit(model, DATA, guide="full", steps=2, update=vb.BatchAndMatch(8), **options)
    more = vb.fit(model, DATA, guide="full", steps=4, update=vb.BatchAndMatch(8), **options)
    assert more.steps == 4
    with pytest.raises(BadInput, match=r"optimizer 'BatchAndMatch\(draws=8\)', not 'BatchAndMatch\(draws=4\)'"):
        vb.fit(model, DATA, guide="full", steps=4, update=vb.BatchAndMatch(4), **options)


@pytest.mark.slow
def test_restarts_take_them_side_by_side():
    options = {"steps": 100, "restarts": 2, **quiet}
    pair = vb.Pair(model, AutoMultivariateNormal(model))
    found = vb.fit(pair, DATA, "stl", update=vb.NaturalGradient(0.2), learning_rate=0.01, compile=True, **options)
    assert [divergence(fit) for fit in found.fits] == pytest.approx([0.0, 0.0], abs=1e-4)
    found = vb.fit(pair, DATA, update=vb.BatchAndMatch(8), **options)
    assert [divergence(fit) for fit in found.fits] == pytest.approx([0.0, 0.0], abs=1e-4)


def amortised(x, y):
    pyro.sample("w", dist.Normal(pyro.param("a", lambda: torch.zeros(D)) * y.mean(), 1.0).to_event(1))


def few_rows(x, y):
    """What differs between its parts would be taken for curvature: a normal a third as wide as it should be, with 20 of 200 rows."""
    w = pyro.sample("w", dist.Normal(torch.zeros(D), 1.0).to_event(1))
    with pyro.plate("rows", len(x), subsample_size=2) as rows:
        pyro.sample("y", dist.Normal(x[rows] @ w, 1.0), obs=y[rows])


@pytest.mark.parametrize(
    ("pair", "options", "error", "message"),
    [
        (vb.Pair(model, amortised), {"update": vb.NaturalGradient()}, Unsuitable, "no normal whose Fisher matrix is known in closed form"),
        (vb.Pair(model, AutoLowRankMultivariateNormal(model)), {"update": vb.NaturalGradient()}, Unsuitable, "of low rank"),
        (vb.Pair(model, "diagonal"), {"update": vb.BatchAndMatch()}, Unsuitable, "not a normal over all latents with a full covariance"),
        (vb.Pair(learnt, AutoMultivariateNormal(learnt)), {"update": vb.ScoreMatching()}, Unsuitable, "parameters besides those of its guide's normal, such as 'shift'"),
        (vb.Pair(few_rows, AutoMultivariateNormal(few_rows)), {"update": vb.BatchAndMatch()}, Unsuitable, "Plate 'rows' subsamples 2 of .* too narrow"),
        (vb.Pair(model, "full"), {"update": vb.BatchAndMatch(), "estimator": "stl"}, BadInput, "and estimator='stl'"),
        (vb.Pair(model, "full"), {"update": vb.BatchAndMatch(), "batch_size": 5}, BadInput, "and batch_size=5"),
        (vb.Pair(model, "full"), {"update": vb.BatchAndMatch(), "learning_rate": 0.1}, BadInput, "and learning_rate=0.1"),
        (vb.Pair(model, "full"), {"update": vb.NaturalGradient(), "average": True}, BadInput, "and average=True"),
        (vb.Pair(model, "full"), {"update": vb.NaturalGradient(), "optimizer": torch.optim.SGD}, BadInput, "optimizer=SGD"),
        (vb.Pair(model, "full"), {"update": "natural"}, BadInput, "update='natural' is a str"),
        (vb.Pair(model, "full"), {"update": vb.NaturalGradient(), "steps": None}, BadInput, "without steps or epochs"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(pair, options, error, message):
    with pytest.raises(error, match=message):
        vb.fit(pair, DATA, **{"steps": 2} | options, **quiet)


def test_its_settings_have_bounds():
    for wrong in ({"rate": 0.0}, {"rate": 2.0}, {"max_kl": 0.0}):
        with pytest.raises(BadInput):
            vb.NaturalGradient(**wrong)
    with pytest.raises(BadInput):
        vb.BatchAndMatch(draws=1)
