"""What a fit calls on its way: where it stands, how it is stopped, and what becomes of errors."""

from __future__ import annotations

import functools
import math
import signal

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.models import binary, small_vae
from tests.quick import some_quick
from vbayes.guides.richer import NUTS
from vbayes.staging.many import Affordable
from vbayes.training.failure import Failure
from vbayes.training.phased_run import PhasedRun

X = torch.tensor([0.5, 1.5])
fit = functools.partial(vb.fit, seed=0, device="cpu", progress=False)

WAYS = {
    "by Pyro": {"steps": 60, "compile": False},
    "compiled": {"steps": 60, "compile": True},
    "averaged": {"steps": 60, "average": True, "compile": True},
    "until it has converged": {"max_steps": 900, "learning_rate": 0.1},
    "restarts": {"steps": 60, "restarts": 2, "compile": False},
    "restarts side by side": {"steps": 60, "restarts": 2, "compile": True},
    "restarts until they have converged": {"max_steps": 900, "learning_rate": 0.1, "restarts": 2},
}
every_way = pytest.mark.parametrize(
    "way", some_quick(WAYS, ("by Pyro", "until it has converged", "restarts side by side"))
)


def pair():
    return vb.pairs.normal_normal()


def same(one: vb.Fit, other: vb.Fit) -> bool:
    values = other.pair.parameters
    return one.rows.elbo.tolist() == other.rows.elbo.tolist() and all(
        torch.equal(value, values[name]) for name, value in one.pair.parameters.items()
    )


def each(found: vb.Fit | vb.Restarts) -> tuple[vb.Fit, ...]:
    return found.fits if isinstance(found, vb.Restarts) else (found,)


@every_way
def test_it_sees_each_step_once_and_the_fit_so_far_and_changes_nothing(way):
    seen: dict[int, list[tuple]] = {}
    kept: dict[int, list[vb.Fit]] = {}

    def look(state: vb.TrainingState) -> None:
        torch.randn(3)  # of the program's own generator, which is not the fit's
        seen.setdefault(state.restart, []).extend(state.new_rows)
        assert (state.step, state.epoch, state.elbo, state.elbo_per_datum, state.seconds) == state.rows[-1]
        assert list(state.rows) == seen[state.restart] and len(state.history) == state.step
        kept.setdefault(state.restart, []).append(state.fit)
        assert state.fit is state.fit and state.parameters.keys() == state.fit.parameters.keys()

    before = torch.get_rng_state()
    found = fit(pair(), X, callbacks=[look], **WAYS[way])
    torch.set_rng_state(before)
    plain = fit(pair(), X, **WAYS[way])
    for number, (one, other) in enumerate(zip(each(found), each(plain), strict=True)):
        assert same(one, other)
        assert [row[0] for row in seen[number]] == list(range(1, one.steps + 1))
        assert all(a.rows == one.rows[: a.steps] for a in kept[number])  # they stayed where they were
        last = kept[number][-1]
        assert last.steps == one.steps and last.optimizer is one.optimizer


@every_way
def test_what_returns_true_ends_the_fit(way):
    found = fit(pair(), X, callbacks=[lambda state: 1, lambda state: state.step >= 3], **WAYS[way])
    for one in each(found):
        assert one.interrupted and 3 <= one.steps < 900
    if "converged" in way:
        (one, *others) = each(found)
        assert one.convergence.reason.startswith("stopped by a callback after") and not others


@every_way
def test_an_error_keeps_what_there_is(way):
    calls = []

    def fail(state):
        calls.append(state.step)
        if state.step >= 3:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        fit(pair(), X, callbacks=[fail], **WAYS[way])
    (*_, last) = each(caught.value.fit)
    assert isinstance(caught.value.fit, vb.Restarts if "restarts" in way else vb.Fit)
    assert "`.fit` has the fit so far" in caught.value.__notes__[0]
    assert caught.traceback[-1].name == "fail" and [step for step in calls if step >= 3] == calls[-1:]
    assert last.resume(steps=2, progress=False).steps == last.steps + 2


@every_way
def test_so_does_ctrl_c(way):
    def press(state):
        if state.step >= 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)  # the second one ends the callback at once
            pytest.fail("it went on")

    for one in each(fit(pair(), X, callbacks=[press], **WAYS[way])):
        assert one.interrupted and 3 <= one.steps < 900


@pytest.mark.parametrize("compile", [False, True])
def test_a_fit_that_a_callback_has_kept_goes_on_as_if_it_had_never_stopped(compile):
    """Its optimiser's state is its own too, while the fit that it was taken from goes on."""
    kept = []
    how = {"steps": 50, "compile": compile, "learning_rate": 0.1}
    whole = fit(pair(), X, callbacks=[lambda state: kept.append(state.fit)], **how)
    for one in (kept[0], kept[-2]):
        assert same(one.resume(steps=50 - one.steps, progress=False), whole)


def test_networks_are_copied_too():
    kept = []
    x = binary(8)
    whole = fit(small_vae(), x, steps=20, compile=False, callbacks=[lambda state: kept.append(state.fit)])
    assert same(kept[4].resume(steps=15, progress=False), whole)


def test_afterwards_the_state_no_longer_knows_the_fit():
    seen = []
    fit(pair(), X, steps=3, compile=False, callbacks=[seen.append])
    assert seen[0].elbo == seen[0].rows[-1][2] and repr(seen[0]).startswith("TrainingState(step=1, elbo=")
    with pytest.raises(vb.errors.BadInput, match="inside the callback"):
        seen[0].fit  # noqa: B018


def test_a_callback_may_fit_and_show_nothing_of_it(capfd):
    """Another fit of the same pair inside one of its callbacks; a bar inside a bar is silent."""
    inner = []

    def other(state):
        if state.step == 5:
            inner.append(vb.fit(state.fit.pair, X, steps=10, compile=False, seed=1, device="cpu"))

    mine = pair()
    found = fit(mine, X, steps=20, compile=False, callbacks=[other])
    assert same(found, fit(pair(), X, steps=20, compile=False)) and inner[0].steps == 10


def test_what_is_no_callback_is_refused():
    with pytest.raises(vb.errors.BadInput, match="callbacks"):
        fit(pair(), X, steps=3, callbacks=["print"])


def test_one_that_stops_at_once_leaves_a_checkpoint_that_goes_on(tmp_path):
    path = tmp_path / "fit.safetensors"
    how = {"steps": 40, "compile": False, "checkpoint": path}
    assert fit(pair(), X, callbacks=[lambda state: state.step == 7], **how).steps == 7
    assert vb.Fit.load(path, pair(), X).interrupted
    assert same(fit(pair(), X, **how), fit(pair(), X, steps=40, compile=False))


def test_a_scale_of_seconds_stands_still_in_callbacks():
    times = []
    fit(pair(), X, steps=5, compile=False, callbacks=[lambda state: times.append(state.seconds)])
    assert times == sorted(times) and not any(map(math.isnan, times))


@every_way
def test_one_may_be_called_at_given_steps(way):
    """To the step, whatever the clock says; its new rows are those since its own last call."""
    seen: dict[int, list[int]] = {}

    def look(state):
        assert len(state.new_rows) == 7 and state.step % 7 == 0
        seen.setdefault(state.restart, []).append(state.step)

    ending = vb.Every(lambda state: state.step == 21, steps=3)
    found = fit(pair(), X, callbacks=[vb.Every(look, steps=7), lambda state: None, ending], **WAYS[way])
    for number, one in enumerate(each(found)):
        assert one.steps == 21 and one.interrupted and seen[number] == [7, 14, 21]


def test_or_at_the_end_of_each_epoch():
    seen: list[tuple] = []
    callbacks = [vb.Every(lambda state: seen.append(state.rows[-1][:2]), epochs=2)]
    half = fit(small_vae(), binary(10), epochs=3, batch_size=4, compile=False, callbacks=callbacks)
    half.resume(epochs=3, callbacks=callbacks, progress=False)
    assert seen == [(6, 2), (12, 4), (18, 6)]


@pytest.mark.parametrize("wrong", [{}, {"steps": 1, "epochs": 1}, {"steps": 0}, {"epochs": 1.5}])
def test_every_so_many_of_what(wrong):
    with pytest.raises(vb.errors.BadInput, match="Wanted"):
        vb.Every(print, **wrong)


def bent(y):
    """A posterior that no normal is near."""
    one = pyro.sample("one", dist.Normal(0.0, 1.0))
    two = pyro.sample("two", dist.Normal(one.square(), 0.2))
    pyro.sample("y", dist.Normal(two, 10.0), obs=y)


@pytest.mark.slow
def test_an_error_in_the_phase_of_a_flow_keeps_the_better_of_the_two_guides(monkeypatch):
    """A flow of a few steps is no better than the normal that it starts as: what is kept is the normal, which has been judged."""

    def fail(state):
        if state.fit.pair.word == "flow":
            raise ZeroDivisionError("mine")

    monkeypatch.setattr("vbayes.diagnostics.diagnose.DRAWS", Affordable(most=1000, least=1000, room=2**31))
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        fit(bent, torch.tensor([1.0]), callbacks=[fail], compile=False)
    kept = caught.value.fit
    assert [name for name, _ in kept.tried] == ["normal", "flow"] and kept.interrupted
    assert caught.traceback[-1].name == "fail" and f"Guide: {kept.guide}." in kept.verdict()
    assert NUTS in kept.diagnosis.richer, "a flow has been tried"


def test_an_error_is_not_lost_where_the_next_step_fails_too(monkeypatch):
    """A training that is to go back to where a window began, as a step could not be taken, ends with the callback's error all the same."""

    def fail(state):
        raise ZeroDivisionError("mine")

    def failing(self, steps, **options):
        taken(self, steps, **options)
        self.run._run.engine.failure = Failure("gradient", parameters=("loc",))

    taken = PhasedRun.go
    monkeypatch.setattr(PhasedRun, "go", failing)
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        fit(pair(), X, max_steps=900, learning_rate=0.1, callbacks=[fail])
    assert caught.value.fit.steps > 0 and all(v.isfinite().all() for v in caught.value.fit.parameters.values())
