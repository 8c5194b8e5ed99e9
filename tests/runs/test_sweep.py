"""Sweeps: the same numbers wherever and in whatever order the tasks are measured, and nothing measured twice."""

from __future__ import annotations

import pandas as pd
import pytest

from vbayes.cli import app as cli
from vbayes.errors import BadInput, TaskFailed
from vbayes.runs import parallel
from vbayes.runs.experiment import load
from vbayes.runs.sweep import combinations, measure, stacked
from vbayes.runs.task import Task

FILE = """
import os, signal, time
from pathlib import Path
import pandas as pd
import torch
from matplotlib import pyplot
import vbayes as vb

HERE = Path(__file__).parent

def measure(sizes, scale, wait, dies):
    (HERE / "log").mkdir(exist_ok=True)
    (HERE / "log" / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    time.sleep(wait)
    if dies and scale == 2 and 100 in sizes and not (HERE / "died").exists():
        (HERE / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    print("measured")
    rows = [{"size": n, "mean": scale * torch.randn(n).mean().item(), "threads": torch.get_num_threads()} for n in sizes]
    return pd.DataFrame(rows)

def figure(table):
    drawn, ax = pyplot.subplots()
    ax.plot(table["size"], table["mean"])
    return drawn

experiment = vb.Experiment(
    question="Do means shrink?", claim="They do.", measure=measure,
    full={"sizes": [10, 100, 1000], "scale": 1.0, "wait": 0.0, "dies": False}, quick={"sizes": [10]},
    figure=figure, verdict=lambda table: f"Down to {table['mean'].abs().min():.3g}.", tasks=("sizes",),
)
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "means.py"
    path.write_text(FILE)
    return path


def tables(path, *, jobs=1, backend="loky", force=True, seeds=(0, 7), **given):
    """Of two seeds and two scales, in tasks of three sizes."""
    with load(path) as experiment:
        wanted = combinations(experiment, quick=False, given=given, seeds=seeds, sweep={"scale": "1,2"})
        return stacked(wanted, measure(path, experiment, wanted, jobs=jobs, backend=backend, force=force))


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", *map(str, args)])
    return int(caught.value.code or 0)


def measurements(path) -> int:
    return len(list((path.parent / "log").glob("*")))


def test_the_table(file):
    table = tables(file)
    assert list(table.columns) == ["seed", "scale", "size", "mean", "threads"]
    assert table.seed.tolist() == [0] * 6 + [7] * 6 and table.scale.tolist() == ([1.0] * 3 + [2.0] * 3) * 2
    assert table["size"].tolist() == [10, 100, 1000] * 4 and set(table.threads) == {1}
    means = table.set_index(["seed", "scale", "size"])["mean"]
    assert means[0, 2.0, 100] == 2 * means[0, 1.0, 100] and means[7, 1.0, 100] != means[0, 1.0, 100]


@pytest.mark.slow
def test_processes_give_the_same_numbers(file, capfd):
    serial = tables(file)
    capfd.readouterr()
    pd.testing.assert_frame_equal(tables(file, jobs=2), serial, check_exact=True)
    assert "measured" not in capfd.readouterr().out  # workers keep what they print to themselves
    assert len({p.name.split("-")[0] for p in (file.parent / "log").iterdir()}) > 1


@pytest.mark.slow
def test_a_dead_process_changes_nothing(file):
    died = tables(file, jobs=2, dies="true")
    assert (file.parent / "died").exists()
    pd.testing.assert_frame_equal(died, tables(file, dies="true"), check_exact=True)


@pytest.mark.slow
def test_what_is_measured_is_kept(file, monkeypatch):
    """An interrupted sweep goes on where it was."""
    original, calls = Task.measure, []

    def interrupted(self, *, quiet):
        calls.append(self)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(self, quiet=quiet)

    monkeypatch.setattr(Task, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tables(file, force=False)
    resumed = tables(file, force=False)
    assert len(calls) == 6 + (12 - 5)
    pd.testing.assert_frame_equal(resumed, tables(file), check_exact=True)
    (kept, *others) = (file.parent / "cache" / "tasks").iterdir()
    assert len(others) == 11
    kept.write_bytes(b"not a table")  # damaged: measured again
    before = measurements(file)
    pd.testing.assert_frame_equal(tables(file, force=False), resumed, check_exact=True)
    assert measurements(file) == before + 1


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_failure(file, jobs):
    file.write_text(FILE.replace('print("measured")', "[][0] if 100 in sizes else None"))
    with pytest.raises(TaskFailed, match=r"4 of 12 (.|\n)*sizes=\[100\], scale=(.|\n)*index out of range"):
        tables(file, jobs=jobs)
    assert len(list((file.parent / "cache" / "tasks").iterdir())) == 8  # all the others


@pytest.mark.slow
def test_a_task_whose_process_dies_is_named(file):
    """And keeps none of the others from being measured."""
    always = 'dies and scale == 2 and 100 in sizes and not (HERE / "died").exists()'
    file.write_text(FILE.replace(always, "dies and scale == 2 and 100 in sizes"))
    with pytest.raises(
        TaskFailed, match=r"1 of 6 (.|\n)*sizes=\[100\], scale=2.0(.|\n)*seed=0 failed: its process died"
    ):
        tables(file, jobs=2, dies="true", seeds=(0,))
    assert len(list((file.parent / "cache" / "tasks").iterdir())) == 5


@pytest.mark.slow
def test_processes_that_always_die(file):
    """Not all of them are tried."""
    file.write_text(FILE.replace('dies and scale == 2 and 100 in sizes and not (HERE / "died").exists()', "dies"))
    with pytest.raises(TaskFailed, match=r"3 in a row died, so the other 9 were not tried(.|\n)*sizes=\[10\]"):
        tables(file, jobs=2, dies="true")


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_error_of_the_librarys_is_its_message(file, jobs):
    """No traceback, whose last line is the one that counts; of the other tasks that failed, the names."""
    file.write_text(FILE.replace('print("measured")', "vb.fit(1, torch.zeros(3)) if scale == 2 else None"))
    with pytest.raises(TaskFailed) as caught:
        tables(file, jobs=jobs)
    text = str(caught.value)
    assert "Traceback" not in text and "sizes=[10], scale=2.0" in text and len(text.splitlines()) <= 9
    first, named = text.splitlines()[0], [line for line in text.splitlines() if line.startswith("Also failed")]
    assert first == "6 of 12 measurements failed. The others are saved." and len(named) == 5


def test_a_worker_with_other_files(file):
    sent = Task(file, {"sizes": [1], "scale": 1.0, "wait": 0.0, "dies": False}, 0).marked()
    file.write_text(FILE + "\n")
    with pytest.raises(BadInput, match="the same files at the same places"):
        sent.measure(quiet=True)


def test_the_command(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = (file, "--seeds", "2", "--sweep", "scale=1,2", "--set", "sizes=5,10")
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    assert shown.count("Down to") == 4 and "seed=1, scale=2.0: Down to" in shown
    folder = tmp_path / "runs" / "means-sizes=5,10-scale=1+2-seed=0+1"
    assert len(pd.read_csv(folder / "table.csv")) == 8 and len(list(folder.glob("figure-*.png"))) == 4
    assert measurements(file) == 8
    assert run(*arguments) == 0 and measurements(file) == 8
    assert "Unchanged" in capsys.readouterr().out
    assert run(file, "--seeds", "0,1,5", "--sweep", "scale=1,2", "--set", "sizes=5,10") == 0
    assert measurements(file) == 12  # the new seed's only


@pytest.mark.parametrize(
    ("arguments", "message"),
    {
        "seeds": (("--seeds", "0,x"), "Wanted: distinct integers"),
        "the same seed twice": (("--seeds", "1,1"), "Wanted: distinct integers"),
        "no seeds": (("--seeds", "0"), "Wanted: distinct integers"),
        "unknown": (("--sweep", "scal=1"), "has no setting 'scal'"),
        "type": (("--sweep", "scale=1,x"), "Wanted: a number"),
        "nothing": (("--sweep", "scale="), "needs values separated by commas"),
        "set and swept": (("--sweep", "scale=1", "--set", "scale=2"), "no --set scale"),
        "backend": (("--backend", "slurm"), "There is no backend 'slurm'"),
        "dask without address": (("--backend", "dask"), "dask:tcp://HOST:8786"),
    }.values(),
)
def test_wrong_sweeps(file, tmp_path, capsys, arguments, message):
    assert run(file, "--out", tmp_path / "out", *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("backend", "package"), [("dask:tcp://localhost:1", "distributed"), ("ray", "ray.util.joblib")]
)
def test_a_missing_extra(file, monkeypatch, backend, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(BadInput, match=r"Fix: pip install 'vbayes\[(dask|ray)\]'"):
        tables(file, backend=backend)


def test_tasks_must_be_lists(file):
    file.write_text(FILE.replace('tasks=("sizes",)', 'tasks=("scale",)'))
    with pytest.raises(BadInput, match="not a list setting"), load(file):
        pass


def test_a_column_that_has_the_name_of_a_swept_setting(file):
    with load(file) as experiment:
        wanted = combinations(experiment, quick=False, given={}, seeds=(0,), sweep={"sizes": "3,4"})
        assert [c.settings["sizes"] for c in wanted] == [[3], [4]] and wanted[1].name == "sizes=4"
        own = [pd.DataFrame({"sizes": [3]}), pd.DataFrame({"sizes": [9]})]
        assert stacked(wanted, own).columns.tolist() == ["sizes", "sizes (set)"]


@pytest.fixture(scope="module")
def cluster():
    """A real Dask cluster: two worker processes of two threads, each with a nanny that starts it anew when it dies."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0", silence_logs=50
    ) as made:
        yield made


@pytest.mark.slow
def test_a_worker_of_a_cluster_dies_in_the_middle(file, cluster):
    """The numbers are those of one process, although tasks were begun twice and two threads share a generator."""
    swept = tables(file, backend=f"dask:{cluster.scheduler_address}", wait="0.1", dies="true")
    assert (file.parent / "died").exists() and measurements(file) > 12  # what the dead one had begun was done again
    pd.testing.assert_frame_equal(swept, tables(file, wait="0.1", dies="true"), check_exact=True)


@pytest.mark.slow
def test_a_failure_on_a_cluster(file, cluster):
    file.write_text(FILE.replace('print("measured")', "[][0] if 100 in sizes else None"))
    with pytest.raises(TaskFailed, match="index out of range"):
        tables(file, backend=f"dask:{cluster.scheduler_address}")


@pytest.mark.slow
def test_a_task_that_kills_every_worker_of_a_cluster(file, cluster, monkeypatch):
    """It ends, by Dask's count of tries or, should no worker come back, by ours."""
    monkeypatch.setattr(parallel, "LONELY", 15)
    file.write_text(FILE.replace('and not (HERE / "died").exists()', ""))
    with pytest.raises(TaskFailed, match="crashed every worker|no workers"):
        tables(file, backend=f"dask:{cluster.scheduler_address}", dies="true")
    assert list((file.parent / "cache" / "tasks").iterdir())  # others came out, if not those that ran beside it
