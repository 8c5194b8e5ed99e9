"""Several fits in one loop: the first is the single fit, the others start elsewhere, and none disturbs another."""

from __future__ import annotations

import functools
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.models import binary, small_vae
from tests.staging.programs import gaussian_process
from vbayes.pair.initial_values import another_start
from vbayes.training.side_by_side import SideBySide


def states_equal(a: vb.Fit, b: vb.Fit) -> bool:
    return all(torch.equal(v, b.pair.state()[k]) for k, v in a.pair.state().items())


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [None, 20])
def test_the_first_is_the_single_fit(batch_size):
    options = {"batch_size": batch_size, "steps": 12, "compile": True, "progress": False, "learning_rate": 0.01}
    data = binary(50)
    several = vb.fit(small_vae(), data, "stl", restarts=3, **options)
    single = vb.fit(small_vae(), data, "stl", **options)
    assert several.fits[0].history.elbo.tolist() == pytest.approx(single.history.elbo.tolist(), rel=1e-6)
    for name, value in single.pair.parameters.items():
        torch.testing.assert_close(several.fits[0].pair.parameters[name], value, rtol=1e-5, atol=1e-6)
    ends = [fit.pair.parameters["encoder$$$hidden.weight"] for fit in several.fits]
    assert not torch.equal(ends[0], ends[1]) and not torch.equal(ends[1], ends[2])
    # Each is a fit like any other.
    assert all(fit.steps == 12 for fit in several.fits) and several.fits[2].resume(steps=2, progress=False).steps == 14


def test_they_come_back_with_their_spread_and_as_chains(tmp_path):
    result = vb.fit(
        vb.pairs.eight_schools(),
        vb.data.eight_schools(),
        "trace",
        steps=400,
        restarts=4,
        learning_rate=0.03,
        progress=False,
    )
    table = result.to_dataframe()
    assert table.restart.tolist() == [0, 1, 2, 3] and table.best.sum() == 1 and table.finished.all()
    assert result.best is result.fits[int(table.elbo.idxmax())]
    assert 0 < result.spread < 0.5 and (table.elbo_se > 0).all()
    posterior = result.to_arviz(draws=50).posterior
    assert dict(posterior.sizes) | {"chain": 4, "draw": 50} == dict(posterior.sizes)
    assert posterior["mu"].std("chain").min() > 0
    lines = result.plot().get_lines()
    assert len(lines) == 5 and sum(line.get_color() == "#0072B2" for line in lines) == 1


def test_starts_are_drawn_as_the_first_ones_were():
    batch = vb.Batch((binary(5),))
    pair = small_vae().initialise(batch)
    before = pair.state()
    other = another_start(pair, batch, 7)
    weights = other.parameters["encoder$$$hidden.weight"]
    assert not torch.equal(weights, before["encoder$$$hidden.weight"]) and weights.abs().max() <= 6**-0.5
    assert all(torch.equal(v, before[k]) for k, v in pair.state().items())
    assert states(another_start(pair, batch, 7)) == states(other) != states(another_start(pair, batch, 8))

    schools, data = vb.pairs.eight_schools(), vb.data.eight_schools()
    schools.initialise(data.batch(schools.model))
    again = another_start(schools, data.batch(schools.model), 1)
    moved = [k for k, v in again.parameters.items() if not torch.equal(v, schools.parameters[k])]
    assert moved and all("locs" in name for name in moved)  # AutoNormal's scales start at a constant
    assert callable(schools.guide.model)  # a copy of an autoguide takes its model from it


def states(pair: vb.Pair) -> list:
    return [v.tolist() for v in pair.state().values()]


def test_one_that_leaves_the_reals_does_not_take_the_others_along():
    def model(x):
        w = pyro.param("w", lambda: torch.randn(()))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, torch.sqrt(w + 1.5)), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("m", lambda: torch.tensor(0.0)), 1.0))

    x = torch.tensor([0.1, -0.1])
    pair = vb.Pair(model, guide).initialise(vb.Batch((x,)))
    pair.load({"w": torch.tensor(0.5)})
    options = {"optimizer": torch.optim.SGD, "learning_rate": 0.02, "steps": 150, "compile": True, "progress": False}
    result = vb.fit(pair, x, "trace", restarts=12, **options)
    table = result.to_dataframe()
    assert 0 < table.finished.sum() < 12 and table.finished[table.best].all()
    for fit in result.fits:
        assert fit.history.elbo.notna().all() and len(fit.history) == fit.steps
        assert all(torch.isfinite(v) for v in fit.pair.parameters.values())


def test_none_that_stays_in_the_reals_is_an_error():
    options = {"optimizer": torch.optim.SGD, "learning_rate": 1e30, "steps": 20, "compile": True, "progress": False}
    with pytest.raises(vb.errors.NonFinite, match="None of 3 fits of pair 'vae' stayed finite") as caught:
        vb.fit(small_vae(), binary(10), "trace", restarts=3, callbacks=[lambda state: state.step], **options)
    assert caught.value.fit.steps < 20


def test_an_interrupt_in_a_callback_keeps_what_there_is():
    def stop(state):
        if state.step > 10:
            raise KeyboardInterrupt

    result = vb.fit(small_vae(), binary(10), restarts=3, steps=10**6, compile=True, callbacks=[stop], progress=False)
    assert len({fit.steps for fit in result.fits}) == 1 and 10 < result.best.steps < 10**5 and result.best.interrupted


def test_what_cannot_be_captured_is_fitted_one_by_one():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0 if mu > 0 else 2.0), obs=x)

    guide = pyro.infer.autoguide.AutoNormal(model)
    with pytest.warns(UserWarning, match="takes the steps one by one"):
        result = vb.fit(
            vb.Pair(model, guide), binary(5)[:, 0], "trace", steps=5, restarts=2, compile=True, progress=False
        )
    assert [fit.steps for fit in result.fits] == [5, 5]


@pytest.mark.parametrize("wrong", [0, -1, 1.5])
def test_a_number_of_restarts(wrong):
    with pytest.raises(vb.errors.BadInput, match="Wanted: an integer of at least 1"):
        vb.fit(small_vae(), binary(5), restarts=wrong)


def bimodal(x):
    """Two modes of the same height, four sds apart: each start comes to one of them."""
    z = pyro.sample("z", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z.abs(), 1.0), obs=x)


def single(x):
    z = pyro.sample("z", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def normal(x):
    loc = pyro.param("loc", lambda: 6 * torch.randn(()))
    pyro.sample("z", dist.Normal(loc, pyro.param("s", torch.tensor(0.5), constraint=dist.constraints.positive)))


@pytest.mark.slow
@pytest.mark.parametrize(("model", "agree"), [(single, True), (bimodal, False)])
def test_starts_that_train_until_they_have_converged_are_compared(model, agree):
    x = torch.tensor([2.0, 2.5, 3.0, 2.5])
    found = vb.fit(vb.Pair(model, normal), x, restarts=4, seed=0, progress=False, device="cpu")
    assert found.steps is None and all(fit.convergence.converged for fit in found.fits)
    table = found.to_dataframe()
    assert table.finished.all() and table.elbo.notna().all() and "4 of 4 converged" in repr(found)
    means = torch.stack([fit.parameters["loc"] for fit in found.fits])
    assert ((means.abs() - 2.49).abs() < 0.1).all() and (len(means.sign().unique()) == 1) == agree
    worst = found.r_hat(300, seed=0)
    assert worst.site[0] == "z" and (worst.r_hat[0] < 1.05) == agree
    words = "They agree on one posterior" if agree else "They led to different posteriors: R̂ is"
    assert words in found.verdict(300) and "4 starts 4 finished and 4 are known" in found.verdict(300)


def placed(fit, loc):
    return replace(fit, pair=fit.pair.copy().load({**fit.pair.parameters, "loc": torch.tensor(loc)}))


def test_starts_are_told_apart_by_more_than_the_errors_of_their_elbo():
    """By symmetry the two modes have the same ELBO; one that is .5 beside its mode is 4 · .5² / 2 nats below."""
    how = {"steps": 2, "learning_rate": 1e-9, "compile": False, "progress": False, "device": "cpu", "seed": 0}
    made = vb.fit(vb.Pair(bimodal, normal), torch.tensor([2.0, 2.5, 3.0, 2.5]), "pathwise", restarts=3, **how)
    right, left, off = (placed(fit, loc) for fit, loc in zip(made.fits, (2.5, -2.5, 3.0), strict=True))
    both = replace(made, fits=(right, left), failures=(None, None))
    table = both.behind()
    assert table.tied.all() and table.gap.max() < 0.05 and list(table.columns) == ["restart", "gap", "gap_se", "tied"]
    assert "led to different posteriors" in both.verdict(300)
    assert "differ by no more than their errors" in both.verdict(300) and "several modes" in both.verdict(300)
    three = replace(made, fits=(right, off, left), failures=(None,) * 3)
    table = three.behind()
    assert table.tied.tolist() == [True, False, True]
    assert table.gap[1] == pytest.approx(0.5, abs=0.1) and 0 < table.gap_se[1] < 0.05
    assert "starts 0, 2 reach, within error, the best ELBO; the worst ends 0.5" in three.verdict(300)
    assert "have not converged may still be on their way" in three.verdict(300)


def test_a_guide_by_a_word_starts_elsewhere_too():
    """The first is where the search has led; the others must train to get there."""
    x = torch.tensor([2.0, 2.5, 3.0, 2.5])
    found = vb.fit(single, x, guide="full", restarts=2, progress=False, device="cpu")
    assert found.fits[0].steps == 0 < found.fits[1].steps and found.r_hat(500, seed=0).r_hat[0] < 1.05
    short = vb.fit(vb.Pair(single, normal), x, restarts=3, max_steps=20, progress=False, device="cpu")
    assert [fit.steps for fit in short.fits] == [20] * 3 and not any(fit.convergence.converged for fit in short.fits)


def test_a_matrix_without_a_factor_costs_no_steps(monkeypatch):
    """The fits go on by Pyro from where their histories end, and not from their starts."""
    take, calls = SideBySide.take, []

    def taken(engine, count):
        calls.append(count)
        if len(calls) == 4:
            raise torch.linalg.LinAlgError("no factor")
        return take(engine, count)

    how = {"learning_rate": 0.1, "compile": True, "progress": False, "device": "cpu", "restarts": 2}
    call = functools.partial(vb.fit, vb.pairs.normal_normal(), torch.tensor([2.0, 3.0]), **how)
    with monkeypatch.context() as patched, pytest.warns(UserWarning, match="no factor"):
        patched.setattr(SideBySide, "take", taken)
        found = call(steps=8)
    taken_then = sum(calls[:3])
    for one, other in zip(found.fits, call(steps=taken_then).fits, strict=True):
        assert one.rows[:taken_then].elbo.tolist() == other.rows.elbo.tolist() and one.steps == 8
        moved = one.pair.parameters["loc"] - other.pair.parameters["loc"]
        assert (moved > 0.2).all()  # four steps of .1 towards the data


def test_the_best_is_not_the_one_whose_draws_miss_the_posterior():
    """Of an upper bound that is lowered few draws show least where q is far off: the ends are compared by the ELBO."""
    pair, x = vb.pairs.normal_normal(), torch.tensor([-0.5, 2.0])
    made = vb.fit(pair, x, vb.CUBO(4), steps=20, restarts=2, learning_rate=0.01, progress=False)
    far = made.fits[0].pair.copy().load({**made.fits[0].pair.parameters, "loc": torch.full((2,), 30.0)})
    ruined = replace(made.fits[0], pair=far, rows=[(*row[:2], 900.0, 450.0, row[4]) for row in made.fits[0].rows])
    result = replace(made, fits=(ruined, made.fits[1]))
    table = result.to_dataframe()
    assert result.best is made.fits[1] and table.elbo[0] < -1000 < table.elbo[1] < 0 and (table.elbo_se > 0).all()


def test_what_few_draws_show_of_a_bound_that_is_lowered_finds_no_rate():
    with pytest.raises(vb.errors.BadInput, match=r"estimator=cubo without steps or epochs.*Fix: steps=2000"):
        vb.fit(vb.pairs.normal_normal(), torch.tensor([-0.5, 2.0]), "cubo", progress=False)


@pytest.mark.slow
def test_what_torch_can_not_trace_side_by_side_is_told_plainly():
    """Pyro's Gaussian process writes to its kernel's diagonal: no fault of ours, so no warning that asks for a report."""
    model, guide, loss, _ = gaussian_process()
    pair = vb.Pair(lambda x: model(), lambda x: guide())
    how = {"steps": 200, "restarts": 2, "progress": False, "device": "cpu"}
    assert "Pyro's Gaussian processes" in vb.fit(pair, torch.zeros(1), loss, **how).fits[0].engine


def lost_sign(x):
    """Two equal modes, at about ±1.92, ten sds apart."""
    z = pyro.sample("z", dist.Normal(0.0, 2.0))
    both = dist.Normal(torch.stack([z, -z]), 0.4)
    pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), both), obs=x[0])


def test_agreement_of_equal_starts_is_no_reassurance():
    def guide(x):
        scale = pyro.param("s", lambda: torch.tensor(0.6), constraint=dist.constraints.positive)
        pyro.sample("z", dist.Normal(pyro.param("m", lambda: torch.tensor(0.8)), scale))

    how = {"steps": 2, "compile": False, "progress": False, "device": "cpu", "restarts": 3, "seed": 0}
    said = vb.fit(vb.Pair(lost_sign, guide), torch.tensor([2.0]), "pathwise", **how).verdict(300)
    assert "All 3 started at the same place" in said and "agree on one posterior" not in said


def test_starts_of_a_guide_by_name_take_turns_at_the_modes_found():
    """The search tells the verdict of a single fit, too, what its weights can't: k̂ = 0.37, and half of the mass missing."""
    x, how = torch.tensor([2.0]), {"progress": False, "device": "cpu"}
    found = vb.fit(lost_sign, x, guide="full", steps=2, compile=False, restarts=4, **how)
    means = torch.stack([vb.posterior(fit, draws=100, seed=0).mean()["z"] for fit in found.fits])
    assert means.sign().sum() == 0 and ((means.abs() - 1.92).abs() < 1.0).all()
    assert "led to different posteriors" in found.verdict(300)
    said = vb.fit(lost_sign, x, **how).verdict()
    assert "another mode, with about 0.50 of the mass" in said and "Use the draws" not in said
