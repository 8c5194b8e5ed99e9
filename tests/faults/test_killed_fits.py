"""Fits whose process is killed: the same call goes on from the file, and comes to the same numbers, to the last bit."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import threading
import time

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.faults.processes import in_a_child, killed_at
from vbayes.errors import BadInput, OutputUnwritable
from vbayes.training import autosave, checkpoint, checksum
from vbayes.training.autosave import Autosave, interval

pytestmark = pytest.mark.on_cpu
DATA = torch.tensor([1.0, 2.0])
fit = functools.partial(vb.fit, progress=False)
short = functools.partial(fit, data=DATA, estimator="trace", steps=60, compile=False)


def pair():
    return vb.pairs.normal_normal()


def same(one, other):
    """To the last bit: all but the clock."""
    assert [row[:4] for row in one.rows] == [row[:4] for row in other.rows]
    for name, value in one.pair.state().items():
        assert torch.equal(value, other.pair.state()[name]), name
    told = [found.convergence and found.convergence.to_json() | {"reason": ""} for found in (one, other)]
    assert str(told[0]) == str(told[1]) and one.tried == other.tried and one.interrupted == other.interrupted


def killed(path, call, counts, monkeypatch):
    """The call again and again, each killed after another number of writings; then once more."""
    for count in counts:

        def work(count=count):
            monkeypatch.setattr(Autosave, "keep", killed_at(count, Autosave.keep))
            call(checkpoint=path, every=0)

        if in_a_child(work) != -signal.SIGKILL:
            break
    return call(checkpoint=path, every=0)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 60, "estimator": "trace", "compile": False},
        {"steps": 310, "estimator": "stl"},
        {"steps": 40, "compile": False, "optimizer": pyro.optim.ClippedAdam({"lr": 0.01}), "estimator": "trace"},
    ],
)
def test_a_fit_of_so_many_steps(tmp_path, monkeypatch, options):
    call = functools.partial(fit, pair(), DATA, **options)
    path, whole = tmp_path / "fit.safetensors", call()
    reached = killed(path, call, (2, 3), monkeypatch)
    same(reached, whole)
    same(call(checkpoint=path, every=0), whole)  # finished: it comes back
    assert list(tmp_path.iterdir()) == [path]


def test_until_it_has_converged(tmp_path, monkeypatch):
    call = functools.partial(fit, pair(), DATA, "stl", max_steps=450)
    same(killed(tmp_path / "fit.safetensors", call, (3, 9), monkeypatch), call())


def each_file(path, call, monkeypatch, share):
    """Some of all the files that a fit ever writes, among them the last ones: after each the call goes on, and comes to the same end."""
    kept, written = Autosave.keep, 0

    def keep(self, *args, **told):
        nonlocal written
        kept(self, *args, **told)
        written += 1
        shutil.copyfile(path, path.with_suffix(f".{written}"))

    with monkeypatch.context() as patched:
        patched.setattr(Autosave, "due", lambda self, steps: True)
        patched.setattr(Autosave, "keep", keep)
        whole = call(checkpoint=path)
    for number in range(1, written + 1):
        if number % (written // share) == 0 or written - number < 5:
            for other in path.parent.glob("*.flow.safetensors"):
                other.unlink()
            shutil.copyfile(path.with_suffix(f".{number}"), path)
            same(call(checkpoint=path, every="1h"), whole)
    return whole


def vae_of_minibatches():
    return vb.pairs.vae(64, 8, 2), vb.data.digits().rows(slice(0, 300))


def eight_schools():
    def model(effects, sds):
        mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("data", len(effects)):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("effects", dist.Normal(theta, sds), obs=effects)

    effects, sds = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12]), torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])
    return vb.Pair(model), {"effects": effects, "sds": sds}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "options"),
    [
        (lambda: (pair(), DATA, "stl"), {"max_steps": 900}),
        (vae_of_minibatches, {"batch_size": 50, "max_steps": 2500}),
        (
            vae_of_minibatches,
            {"batch_size": 50, "max_steps": 1500, "validation": vb.data.digits().rows(slice(300, 400))},
        ),
        (lambda: (pair(), DATA, "stl"), {"max_steps": 1200, "learning_rate": 1e3}),
        (lambda: (pair(), DATA, "trace"), {"compile": False, "max_steps": 300}),
        (eight_schools, {"max_steps": 1000}),
    ],
    ids=["one batch", "minibatches", "held-out data", "retreats", "by Pyro", "a normal, then a flow"],
)
def test_until_it_has_converged_of_other_kinds(tmp_path, monkeypatch, made, options):
    """Killed while rates are tried, in windows, and in looks at means."""
    call = functools.partial(fit, *made(), **options)
    same(each_file(tmp_path / "fit.safetensors", call, monkeypatch, 4), call())


def test_killed_while_it_writes(tmp_path, monkeypatch):
    """The file is the one before, whole; the half of another goes with the next."""
    path = tmp_path / "fit.safetensors"

    def work():
        monkeypatch.setattr(checksum, "save_file", killed_at(3, checksum.save_file))
        short(pair(), checkpoint=path, every="5 steps")

    assert in_a_child(work) == -signal.SIGKILL
    assert {file.name for file in tmp_path.iterdir()} == {path.name, path.name + ".part"}
    assert checkpoint.going(path)["finished"] is False
    same(short(pair(), checkpoint=path), short(pair()))
    assert list(tmp_path.iterdir()) == [path]


def test_killed_from_outside(tmp_path):
    """At some moment: no more than the interval is lost."""
    path, counted = tmp_path / "fit.safetensors", tmp_path / "steps"

    def work():
        def callback(state):
            counted.write_text(str(state.step))
            time.sleep(0.002)
            if state.step > 30:
                os.kill(os.getpid(), signal.SIGKILL)

        short(pair(), checkpoint=path, every="5 steps", callbacks=[callback])

    assert in_a_child(work) == -signal.SIGKILL
    kept = vb.Fit.load(path, pair(), DATA, estimator="trace")
    assert int(counted.read_text()) - 5 <= kept.steps <= 31
    same(short(pair(), checkpoint=path), short(pair()))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_a_signal_keeps_what_was_learned(tmp_path, capfd, number, status):
    """SIGTERM, which clusters send before they kill, also ends the process; the handlers are what they were."""
    path, after = tmp_path / "fit.safetensors", tmp_path / "after"

    def work():
        before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
        try:
            found = short(pair(), checkpoint=path, callbacks=[lambda state: os.kill(os.getpid(), number)])
        finally:
            assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
        after.touch()  # which the rest of a script is
        assert found.interrupted and 0 < found.steps < 60

    assert in_a_child(work) == status
    assert after.exists() == (number == signal.SIGINT)
    assert ("Stopped by SIGTERM. The steps so far are saved" in capfd.readouterr().err) == (number == signal.SIGTERM)
    assert vb.Fit.load(path, pair(), DATA, estimator="trace").interrupted
    same(short(pair(), checkpoint=path), short(pair()))


def test_a_handler_of_the_programs_own_stays(monkeypatch):
    """Whoever handles SIGTERM knows what to do."""
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        found = short(pair(), callbacks=[lambda state: seen or os.kill(os.getpid(), signal.SIGTERM)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM] and not found.interrupted and found.steps == 60


@pytest.mark.parametrize("options", [{}, {"restarts": 2}], ids=["one", "several"])
def test_without_a_checkpoint_sigterm_does_what_it_does_in_any_program(options):
    """At once; the rest of a script does not run on with half a fit."""

    def work():
        short(pair(), callbacks=[lambda state: os.kill(os.getpid(), signal.SIGTERM)], **options)

    assert in_a_child(work) == -signal.SIGTERM


def test_a_handler_of_the_programs_own_is_called_with_a_checkpoint_too(tmp_path):
    """At once, as a server that is told to drain has to know; and an error of it is the program's own."""
    path, seen = tmp_path / "fit.safetensors", []

    def handler(number, frame):
        seen.append(number)
        raise SystemExit(7)

    def work():
        signal.signal(signal.SIGTERM, handler)
        short(pair(), checkpoint=path, callbacks=[lambda state: os.kill(os.getpid(), signal.SIGTERM)])

    assert in_a_child(work) == 7


def test_a_fit_in_a_thread_leaves_signals_alone(tmp_path):
    def work():
        before = signal.getsignal(signal.SIGTERM)
        thread = threading.Thread(target=lambda: short(pair(), checkpoint=tmp_path / "fit.safetensors"))
        thread.start()
        while thread.is_alive():
            assert signal.getsignal(signal.SIGTERM) is before
            thread.join(0.01)

    assert in_a_child(work) == 0
    assert vb.Fit.load(tmp_path / "fit.safetensors", pair(), DATA, estimator="trace").steps == 60


@pytest.mark.slow
def test_a_converging_fit_that_is_interrupted_goes_on(tmp_path):
    call, path = functools.partial(fit, pair(), DATA, "stl", max_steps=700), tmp_path / "fit.safetensors"

    def work():
        call(checkpoint=path, callbacks=[lambda state: os.kill(os.getpid(), signal.SIGTERM)])
        raise AssertionError("the process should have ended")

    assert in_a_child(work) == 143
    assert not (reached := call(checkpoint=path)).interrupted
    same(reached, call())


def test_more_steps_and_fewer(tmp_path):
    path = tmp_path / "fit.safetensors"
    short(pair(), checkpoint=path, steps=20)
    same(short(pair(), checkpoint=path), short(pair()))
    with pytest.raises(BadInput, match="holds a fit of 60 steps, but only 20 are requested"):
        short(pair(), checkpoint=path, steps=20)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"data": torch.tensor([1.0, 2.5])}, "data"),
        ({"estimator": "stl"}, "estimator 'trace', not 'stl'"),
        ({"learning_rate": 0.1}, "learning_rate None, not 0.1"),
        ({"optimizer": functools.partial(torch.optim.SGD, lr=0.1)}, "optimizer 'Adam', not 'SGD"),
    ],
)
def test_another_fit(tmp_path, options, words):
    """Is an error that says what differs, and the file stays."""
    path = tmp_path / "fit.safetensors"
    short(pair(), checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(BadInput, match=f"holds a different fit: it has (.|\n)*{words}(.|\n)*Wanted(.|\n)*Fix"):
        short(pair(), checkpoint=path, **options)
    assert path.read_bytes() == before


def test_a_fit_that_was_saved(tmp_path):
    path = short(pair()).save(tmp_path / "mine.safetensors")
    before = path.read_bytes()
    with pytest.raises(BadInput, match="written by fit.save, not a checkpoint(.|\n)*Fix"):
        short(pair(), checkpoint=path)
    assert path.read_bytes() == before


def test_what_can_not_be_written_is_known_before_the_first_step(tmp_path, monkeypatch):
    with pytest.raises(OutputUnwritable, match="Choose an existing"):
        short(pair(), checkpoint=tmp_path / "missing" / "fit.safetensors", callbacks=[pytest.fail])
    monkeypatch.setattr(autosave, "STATES", 10**15)
    with pytest.raises(OutputUnwritable, match="Not enough disk space (.|\n)*Fix"):
        short(pair(), checkpoint=tmp_path / "fit.safetensors", callbacks=[pytest.fail])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_goes_away_costs_no_fit(tmp_path):
    (tmp_path / "in").mkdir()

    def remove(state):
        for file in (tmp_path / "in").glob("*"):
            file.unlink()
        if (tmp_path / "in").exists():
            (tmp_path / "in").rmdir()

    with pytest.warns(UserWarning, match="The checkpoint could not be saved(.|\n)*continues without it"):
        found = short(pair(), checkpoint=tmp_path / "in" / "fit.safetensors", every=0, callbacks=[remove])
    same(found, short(pair()))


def test_what_goes_on_from_no_file():
    with pytest.raises(BadInput, match="restarts=2. Wanted: a single fit"):
        fit(pair(), DATA, checkpoint="x.safetensors", restarts=2)
    with pytest.raises(BadInput, match="estimator='auto'"):
        fit(pair(), DATA, "auto", checkpoint="x.safetensors", steps=10)
    with pytest.raises(BadInput, match="Wanted: the path of a file"):
        fit(pair(), DATA, checkpoint="", steps=10)


def test_intervals():
    inf = float("inf")
    told = {30: (30, inf), 0.5: (0.5, inf), "30s": (30, inf), "5min": (300, inf), "1h": (3600, inf), "1000 steps": (inf, 1000)}  # fmt: skip
    assert {every: interval(every) for every in told} == told
    for wrong in ("", "30", "5 days", "0 steps", -1, float("nan"), True, None, "1e3s"):
        with pytest.raises(BadInput, match="every="):
            interval(wrong)
