"""Several processes that train one guide, over gloo on this machine: what one process would have come to."""

from __future__ import annotations

import functools
import os
import pickle
import signal
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.distributed
from rich.console import Console

import vbayes as vb
from tests.faults.processes import in_children
from tests.models import binary, small_vae
from vbayes.cli.train import train
from vbayes.errors import BadInput, NonFinite
from vbayes.training.ranks import Ranks, ranks_of
from vbayes.training.share import sharing_of
from vbayes.training.together import until_converged_together

pytestmark = [pytest.mark.on_cpu, pytest.mark.usefixtures("double")]

ROWS = 11
with vb.seeded(0):
    X = torch.randn(ROWS, 2, dtype=torch.float64)
    Y = X @ torch.tensor([1.0, -2.0], dtype=torch.float64) + 0.1 * torch.randn(ROWS, dtype=torch.float64)
DATA = {"x": X, "y": Y}
HOW = {"learning_rate": 0.05, "progress": False}


def positive(name, value):
    return pyro.param(name, torch.tensor(value), constraint=dist.constraints.positive)


def regression(hook=lambda: None, plate="data") -> vb.Pair:
    """Two global latents, of which one is shared by all rows, and one of each row, whose guide looks at the row."""

    def model(x, y):
        hook()
        w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 1.0))
        with pyro.plate(plate, len(x)):
            b = pyro.sample("b", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("y", dist.Normal(x @ w + b, s), obs=y)

    def guide(x, y):
        loc = pyro.param("loc", torch.zeros(2))
        pyro.sample("w", dist.Normal(loc, positive("scale", 0.3)).to_event(1))
        pyro.sample("s", dist.LogNormal(pyro.param("s_loc", torch.tensor(0.0)), positive("s_scale", 0.1)))
        with pyro.plate(plate, len(x)):
            pyro.sample("b", dist.Normal(pyro.param("a", torch.tensor(0.1)) * (y - x @ loc), positive("b_scale", 0.3)))

    return vb.Pair(model, guide, name="regression")


def together(folder, work, world=2) -> list:
    """What `work(rank)` returns in each of so many processes of one group."""

    def as_one_of_them(rank):
        torch.set_num_threads(1)
        signal.alarm(300)  # other processes may share the machine
        where = f"file://{folder}/met-{os.path.basename(folder)}"
        torch.distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=world)
        found = work(rank)
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))
        torch.distributed.barrier()

    assert in_children(*(functools.partial(as_one_of_them, rank) for rank in range(world))) == [0] * world
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(world)]


def come_to(fit: vb.Fit) -> tuple:
    return fit.pair.state(), [row[2] for row in fit.rows], fit.interrupted, fit.engine


def assert_same(found, fit: vb.Fit, tolerance=1e-12):
    values, elbos, *_ = found
    assert elbos == pytest.approx([row[2] for row in fit.rows], rel=1e-10)
    for name, value in fit.pair.state().items():
        torch.testing.assert_close(values[name], value, rtol=tolerance, atol=tolerance)


def test_parameters_are_those_of_one_process(tmp_path):
    """Minibatches of 4 and at last 3 rows of 11, so that one of two has a row more in that; and latents that all rows share, and some of each row."""
    how = HOW | {"batch_size": 4, "steps": 7}
    first, second = together(tmp_path, lambda rank: come_to(vb.fit(regression(), DATA, compile=False, **how)))
    assert_same(first, vb.fit(regression(), DATA, devices=1, compile="torch", **how))
    assert all(torch.equal(value, second[0][name]) for name, value in first[0].items()) and first[1] == second[1]
    assert first[3] == "Pyro: compile=False; its gradient is the mean of 2 processes'"


def test_a_fit_that_goes_on(tmp_path):
    """To the last bit what it would have come to, from memory and from a file; its estimator's memory is the mean over the rows, the same in each process, and is kept."""
    how = HOW | {"batch_size": 4, "compile": False}

    def work(rank):
        pair, data = small_vae(), binary(10).double()
        whole = vb.fit(pair, data, "baselined", steps=7, **how)
        part = vb.fit(pair, data, "baselined", steps=3, **how)
        path = part.save(tmp_path / f"{rank}.safetensors")
        loaded = vb.Fit.load(path, pair, data).resume(steps=4, progress=False)
        alone = part.resume(steps=4, devices=1, progress=False)
        return [come_to(each) for each in (whole, part.resume(steps=4, progress=False), loaded, alone)]

    (whole, *rest), other = together(tmp_path, work)
    assert any(name.endswith(".weight") and name.startswith("buffer") for name in whole[0])
    for found in (*rest[:2], *other[:3]):
        assert found[1] == whole[1] and all(torch.equal(value, whole[0][name]) for name, value in found[0].items())
    assert rest[1][3].endswith("2 processes'") and not rest[2][3].endswith("processes'")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"batch_size": 4}, {"estimator": vb.STL(num_particles=2)}], ids=["minibatches", "all rows"]
)
def test_parameters_are_those_of_one_process_compiled(tmp_path, options):
    """Of three processes, the last minibatch has a row for each."""
    how = (
        HOW
        | {
            "steps": 30,
            "compile": True,
            "optimizer": pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.99}),
            "learning_rate": None,
        }
        | options
    )
    found = together(tmp_path, lambda rank: come_to(vb.fit(regression(), DATA, **how)), world=3)
    one = vb.fit(regression(), DATA, devices=1, **how)
    for each in found:
        assert_same(each, one)
        assert each[3] == "native; its gradient is the mean of 3 processes'"


@pytest.mark.slow
def test_until_converged(tmp_path):
    """What it decides by is the same everywhere; and what time it is, the first process says."""
    how = {"learning_rate": 0.05, "progress": False}

    def work(rank):
        fit = vb.fit(regression(), DATA, batch_size=4, max_steps=60, compile=False, **how)
        short = vb.fit(regression(), DATA, max_seconds=1e-3, compile=False, **how)
        held_out = vb.fit(
            regression(), DATA, max_steps=9, compile=False, validation=vb.Dataset.of(DATA).rows([0, 1, 2]), **how
        )
        return come_to(fit), fit.convergence.reason, short.steps, come_to(held_out)

    (first, reason, short, held_out), (second, reason_too, short_too, held_out_too) = together(tmp_path, work)
    one = vb.fit(regression(), DATA, batch_size=4, max_steps=60, devices=1, **how)
    assert_same(first, one)
    assert first[1] == second[1] and reason == reason_too and short == short_too and held_out[1] == held_out_too[1]
    assert reason.partition(" in ")[0] == one.convergence.reason.partition(" in ")[0] == "not converged after 60 steps"


@pytest.mark.slow
def test_one_goes_on_from_what_several_have_kept(tmp_path):
    how = HOW | {"compile": "torch", "checkpoint": tmp_path / "fit.safetensors"}
    together(tmp_path, lambda rank: vb.fit(regression(), DATA, steps=5, **how).steps, world=3)
    one = vb.fit(regression(), DATA, steps=9, devices=1, **how)
    assert_same(come_to(one), vb.fit(regression(), DATA, steps=9, devices=1, compile="torch", **HOW))


@pytest.mark.slow
def test_the_command_line(tmp_path):
    """The first process writes the run folder; the others say nothing, and are told where there is nothing to train any more."""
    torch.set_default_dtype(torch.float32)
    asked = {
        "pair": "vae",
        "data": None,
        "estimator": None,
        "seed": 0,
        "steps": 4,
        "epochs": None,
        "max_steps": None,
        "max_seconds": None,
    }
    asked |= {"batch_size": 500, "learning_rate": None, "binarize": None}
    options = {"given": (), "device": "cpu", "out": tmp_path / "run", "resume": None, "console": Console(quiet=True)}

    def work(rank):
        try:
            fit, folder = train(asked, **options)
        except SystemExit as end:
            return end.code
        return fit.steps, folder.name, sorted(path.name for path in folder.iterdir())

    (steps, name, files), status = together(tmp_path, work)
    assert steps == 4 and name == "run" and {"fit.safetensors", "history.csv", "report.html"} <= set(files)
    assert status == 0


@pytest.mark.slow
def test_a_network_in_single_precision(tmp_path):
    """And data that are drawn anew in each epoch."""
    torch.set_default_dtype(torch.float32)
    data = vb.data.digits().rows(slice(0, 90))
    how = {"batch_size": 20, "epochs": 3, "binarize": "dynamic", "progress": False}

    def pair():
        return vb.pairs.vae(64, 20, 3)

    first, second = together(tmp_path, lambda rank: come_to(vb.fit(pair(), data, compile=False, **how)))
    one = vb.fit(pair(), data, devices=1, compile=True, **how)
    torch.testing.assert_close(torch.tensor(first[1]), torch.tensor([row[2] for row in one.rows]), rtol=1e-5, atol=0.0)
    for name, value in one.pair.state().items():
        torch.testing.assert_close(first[0][name], value, rtol=0.0, atol=2e-5)
        assert torch.equal(first[0][name], second[0][name])


@pytest.mark.slow
def test_one_writes_and_all_stop_and_go_on(tmp_path, capfd):
    """Ctrl-C on one of them ends all after the same step; the first one's file is what all go on from."""
    file, seen, presses = tmp_path / "fit.safetensors", [], 0

    def hook():
        seen.append(1)
        if len(seen) == presses:
            os.kill(os.getpid(), signal.SIGINT)

    def work(rank):
        nonlocal presses
        presses, told = 14 if rank else 0, []
        how = HOW | {"compile": False, "checkpoint": file, "every": "1 steps", "callbacks": [told.append]}
        stopped = vb.fit(regression(hook), DATA, steps=40, **how | {"progress": True})
        called = len(told)
        at_once = vb.fit(regression(), DATA, steps=12, compile=False, **HOW)
        return come_to(stopped), called, come_to(vb.fit(regression(), DATA, steps=12, **how)), come_to(at_once)

    (first, called, after, wanted), (second, silent, after_too, _) = together(tmp_path, work)
    assert first[2] and second[2] and 0 < len(first[1]) < 12 and first[1] == second[1]
    assert called == len(first[1]) and silent == 0
    for found in (after, after_too):
        assert found[1] == wanted[1] and all(torch.equal(value, found[0][name]) for name, value in wanted[0].items())
    assert vb.Fit.load(file, regression(), DATA).steps == 12
    said = capfd.readouterr().err
    assert said.count("/40") <= 1 + len(first[1]) and said.count("2 processes train together") == 1


@pytest.mark.slow
def test_sigterm_on_one_of_them_ends_all(tmp_path, capfd):
    """After the same step, once the first has saved it."""
    file, seen = tmp_path / "fit.safetensors", []

    def work(rank):
        def hook():
            seen.append(1)
            if rank and len(seen) == 14:
                os.kill(os.getpid(), signal.SIGTERM)

        try:
            vb.fit(regression(hook), DATA, steps=40, **HOW | {"compile": False, "checkpoint": file})
        except SystemExit as end:
            return end.code
        return None

    assert together(tmp_path, work) == [143, 143]
    kept = vb.Fit.load(file, regression(), DATA)
    assert kept.interrupted and 0 < kept.steps < 40
    assert capfd.readouterr().err.count("Stopped by SIGTERM") == 1


def test_a_callback_of_the_first_one_stops_all(tmp_path):
    """At the same step, by its answer or by an error, which is the first one's alone; all say why."""

    def work(rank):
        told = []
        how = HOW | {"compile": False}

        def fail(state):
            raise ZeroDivisionError

        def stop(state):
            told.append(state.step)
            return state.step >= 4

        stopped = vb.fit(regression(), DATA, steps=40, callbacks=[stop], **how)
        try:
            failed = vb.fit(regression(), DATA, steps=40, callbacks=[fail], **how)
        except ZeroDivisionError as error:
            failed = error.fit, "raised"
        reason = vb.fit(regression(), DATA, callbacks=[stop], **how).convergence.reason
        return come_to(stopped), come_to(failed[0] if rank == 0 else failed), reason.split(" after")[0], told

    (first, failed, reason, told), (second, failed_too, reason_too, silent) = together(tmp_path, work)
    assert 4 <= len(first[1]) <= 5 and first[1] == second[1] and first[2] and second[2]
    assert 1 <= len(failed[1]) <= 2 and failed[1] == failed_too[1]
    assert reason == reason_too == "stopped by a callback" and told and not silent


@pytest.mark.parametrize("ends", ["raises", "dies"])
def test_one_that_is_lost_is_missed(tmp_path, ends):
    calls: list = []

    def hook():
        calls.append(1)
        if len(calls) == 14:
            os._exit(0) if ends == "dies" else 1 / 0

    def work(rank):
        try:
            vb.fit(regression(hook if rank else lambda: None), DATA, steps=40, compile=False, **HOW)
        except Exception as error:
            (tmp_path / str(rank)).write_text(f"{type(error).__name__}: {error}")
            os._exit(0)

    group = functools.partial(together, tmp_path, work)
    with pytest.raises(FileNotFoundError):  # nobody comes to write a result
        group()
    said = (tmp_path / "0").read_text()
    assert said.startswith("ProcessLost: Process 0 of 2 ") and "start all of them again" in said
    if ends == "raises":
        assert (tmp_path / "1").read_text().startswith("ZeroDivisionError") and "see the error of that process" in said
    else:
        assert "has lost contact with the others" in said


def test_whoever_has_the_row_that_is_to_blame_tells_the_others(tmp_path):
    def model(x):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.StudentT(3.0, m, 1.0).mask(x < 1e3), obs=x)
            pyro.sample("far", dist.Normal(m, 1.0), obs=torch.where(x > 9.0, torch.inf, x))

    def work(rank):
        pair = vb.Pair(model, lambda x: pyro.sample("m", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0)))
        with pytest.raises(NonFinite) as error:
            vb.fit(
                pair,
                torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 99.0]),
                batch_size=4,
                steps=9,
                compile=False,
                **HOW,
            )
        return error.value.sites, error.value.step, error.value.fit.steps

    first, second = together(tmp_path, work)
    assert first == second == (("far",), first[1], first[1] - 1)


def test_what_they_do_not_do_together(tmp_path):
    def work(rank):
        said = []
        for data, options in [
            (DATA, {"estimator": "auto"}),
            (DATA, {"steps": 3, "restarts": 2}),
            (DATA, {"steps": 3, "average": True}),
            (DATA, {"steps": 3, "update": vb.BatchAndMatch(), "learning_rate": None}),
            (DATA, {"steps": 3, "devices": 3}),
            ({"x": X[rank:], "y": Y[rank:]}, {"steps": 3}),
            (DATA, {"steps": 3 + rank}),
        ]:
            with pytest.raises(BadInput) as error:
                vb.fit(regression(), data, **{**HOW, **options})
            said.append(str(error.value))
        alone = vb.fit(regression(), DATA, steps=2 + rank, devices=1, **HOW)
        return said, alone.steps, vb.fit(regression(), DATA, steps=0, **HOW).steps

    first, second = together(tmp_path, work)
    assert first[0] == second[0] and first[1:] == (2, 0) and second[1:] == (3, 0)
    auto, restarts, average, update, devices, data, steps = first[0]
    assert "update=BatchAndMatch(draws=32) with 2 processes" in update
    assert "estimator='auto' with 2 processes" in auto and "restarts=2" in restarts and "average=True" in average
    assert "devices=3, but there are 2 processes" in devices
    assert (
        "Process 1 was called with a different fit than process 0: it has data " in data
        and "it has steps 4, not 3" in steps
    )


class Normalised(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.loc = torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1)


def batch_normalised() -> vb.Pair:
    with vb.seeded(0):
        net = Normalised()

    def model(x, y):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide(x, y):
        pyro.module("net", net)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(net.loc(net.norm(x)).squeeze(-1), 1.0))

    return vb.Pair(model, guide, name="batch_normalised")


def own_numbers() -> vb.Pair:
    def guide(x, y):
        loc = pyro.param("loc", torch.zeros(ROWS))
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Normal(loc, 1.0))

    return vb.Pair(pyro.poutine.block(regression().model, hide=["w", "s"]), guide, name="own_numbers")


def with_gammas() -> vb.Pair:
    def model(x, y):
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.Gamma(x.new_ones(len(x)), 1.0))
            pyro.sample("y", dist.Normal(0.0, rate.sqrt()), obs=y)

    def guide(x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("rate", dist.Gamma(positive("shape", 2.0).expand(len(x)), 1.0))

    return vb.Pair(model, guide, name="with_gammas")


def with_counts() -> vb.Pair:
    def model(x, y):
        with pyro.plate("data", len(x)):
            count = pyro.sample("count", dist.Poisson(x.new_ones(len(x))))
            pyro.sample("y", dist.Normal(count, 1.0), obs=y)

    def guide(x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("count", dist.Poisson(positive("rate", 2.0).expand(len(x))))

    return vb.Pair(model, guide, name="with_counts")


@pytest.mark.parametrize(
    ("pair", "estimator", "why"),
    [
        (batch_normalised, vb.Trace(), "are not the mean of those on two halves"),
        (functools.partial(regression, plate="rows"), vb.Trace(), "are not the mean of those on two halves"),
        (regression, vb.IWAE(num_particles=3), "are not the mean of those on two halves"),
        (regression, vb.RLOO(num_particles=3), "are not the mean of those on two halves"),
        (with_counts, vb.Trace(), "are not the mean of those on two halves"),
        (own_numbers, vb.Trace(), "on 5 rows it fails"),
    ],
    ids=[
        "batch norm",
        "another plate",
        "weights of a global latent",
        "scores of all rows",
        "draws that are no noise",
        "numbers of each row",
    ],
)
def test_rows_that_can_not_be_shared_out(pair, estimator, why):
    pair, data = pair(), vb.Dataset.of(DATA)
    pair.initialise(data.batch(pair.model))
    with pytest.raises(BadInput, match=why), pair.scope():
        sharing_of(pair, estimator, data)


@pytest.mark.parametrize(
    ("pair", "estimator"),
    [
        (regression, vb.AnalyticKL()),
        (regression, vb.STL(num_particles=2)),
        (regression, vb.Trace(num_particles=2, noise="antithetic")),
        (with_gammas, vb.Trace()),
    ],
)
def test_rows_that_can(pair, estimator):
    pair, data = pair(), vb.Dataset.of(DATA)
    pair.initialise(data.batch(pair.model))
    with pair.scope():
        sharing = sharing_of(pair, estimator, data)
    shares = [sharing.share(7, rank, 3, X.device) for rank in range(3)]
    assert [share.stop - share.start for share in shares] == [2, 2, 3] and sum(
        share.weight for share in shares
    ) == pytest.approx(1)
    every, count = torch.cat([share.places[0] for share in shares]), shares[0].sizes[0]
    assert set(every.tolist()) == set(range(count)), "all noise is somebody's"
    assert sharing.share(2, 1, 3, X.device).weight == pytest.approx(1 / 3), "fewer rows than processes: each takes all"


def test_a_guide_that_may_become_another():
    ranks, fit = object.__new__(Ranks), SimpleNamespace(pair=SimpleNamespace(word="auto"))
    ranks.rank, ranks.world = 0, 2
    with pytest.raises(BadInput, match=r"guide='auto'(.|\n)*guide='full'"):
        until_converged_together(fit, ranks, progress=False, callbacks=(), autosave=None)


def test_each_has_a_card_of_its_own(monkeypatch):
    ranks = object.__new__(Ranks)
    ranks.rank, ranks.world = 3, 4
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    monkeypatch.setenv("LOCAL_RANK", "1")  # the second of the second machine
    assert [ranks.device(asked) for asked in ("auto", "cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:1", "cuda:0", "cpu"]
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(
        BadInput, match="on GPU number 3, but there are only 2 GPUs(.|\n)*--nproc-per-node=2(.|\n)*cuda:0"
    ):
        ranks.device("auto")


def test_without_others_there_is_one(monkeypatch):
    assert ranks_of(None) is None and ranks_of(1) is None
    with pytest.raises(BadInput, match="devices=2, but there is only 1 process(.|\n)*torchrun --nproc-per-node=2"):
        vb.fit(regression(), DATA, steps=1, devices=2)
    monkeypatch.setenv("WORLD_SIZE", "2")  # a queue's own, without the rest of what torchrun says
    assert ranks_of(None) is None
