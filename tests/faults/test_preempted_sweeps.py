"""Sweeps whose process is told to go, or whose tasks die: finished tasks are kept, and no table of a fit that came back early is."""

from __future__ import annotations

import os
import signal
from concurrent.futures.process import BrokenProcessPool

import pandas as pd
import pytest

from tests.faults.processes import in_a_child
from vbayes.cli import app as cli
from vbayes.runs import parallel

FILE = """
import os, signal
from pathlib import Path
import pandas as pd
import torch
from matplotlib import pyplot
import vbayes as vb

HERE = Path(__file__).parent

def send(size):
    if size == 2 and (HERE / "signal").exists():
        number = int((HERE / "signal").read_text())
        (HERE / "signal").unlink()
        os.kill(os.getpid(), number)

def measure(sizes):
    rows = []
    for size in sizes:
        with (HERE / "log").open("a") as log:
            log.write(f"{size}\\n")
        found = vb.fit(vb.pairs.normal_normal(), torch.tensor([1.0, 2.0]), "trace", steps=20 * size, compile=False,
                       progress=False, callbacks=[lambda state: send(size)])
        rows.append({"size": size, "steps": found.steps, "elbo": found.rows[-1][2]})
    return pd.DataFrame(rows)

def figure(table):
    return pyplot.figure()

experiment = vb.Experiment(
    question="Are they kept?", claim="They are.", measure=measure, full={"sizes": [1, 2, 3]}, quick={"sizes": [1]},
    figure=figure, verdict=lambda table: "Yes.", tasks=("sizes",),
)
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "kept.py"
    path.write_text(FILE)
    return path


def run(*args) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["run", *map(str, args)])
    return int(end.value.code or 0)


def measured(file):
    return (file.parent / "log").read_text().split()


def dies(file, monkeypatch):
    """What comes of tasks sent to processes of their own, of which each dies."""
    sent = []

    def in_parallel(**how):
        def outcomes(tasks):
            sent.extend(number for number, _ in tasks)
            raise BrokenProcessPool("The exit codes of the workers are {SIGKILL(-9)}")
            yield

        return outcomes

    monkeypatch.setattr(parallel, "_in_parallel", in_parallel)
    return sent


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_a_sweep_goes_on_where_it_was(file, tmp_path, monkeypatch, number, status):
    """In this process: what is finished is kept; the fit that came back early is not taken for a measurement."""
    monkeypatch.setattr(parallel, "_in_parallel", lambda **how: lambda tasks: [parallel._measure(*each) for each in tasks])  # fmt: skip
    (tmp_path / "signal").write_text(str(int(number)))

    def work():
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            cli.main(["run", str(file)])

    assert in_a_child(work) == status
    assert measured(file) == ["1", "2"] and not list((tmp_path / "runs").glob("kept*"))
    assert run(file) == 0
    assert measured(file) == ["1", "2", "2", "3"]  # the first was kept
    table = pd.read_csv(tmp_path / "runs" / "kept" / "table.csv")
    assert table.steps.tolist() == [20, 40, 60]
    assert [entry.name for entry in (tmp_path / "runs").iterdir() if entry.is_dir()] == ["kept"]


@pytest.mark.slow
def test_a_task_that_takes_its_process_with_it(file, tmp_path, monkeypatch, capfd):
    """The next run measures it in a process of its own; where that dies too, it is named, and the others are kept."""
    (tmp_path / "signal").write_text(str(int(signal.SIGKILL)))

    def work():
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            cli.main(["run", str(file)])

    assert in_a_child(work) == -9
    sent = dies(file, monkeypatch)
    assert run(file) == 2
    told = " ".join(capfd.readouterr().err.replace("│", " ").split())
    assert "1 of 2 measurements failed. The others are saved." in told
    assert "sizes=[2], seed=0 failed: its process died by SIGKILL(-9), and again when it ran alone" in told  # fmt: skip
    assert sent == [0, 0] and measured(file) == ["1", "2", "3"]  # of those that were left it was the first
    assert len(list((tmp_path / "cache" / "tasks").glob("*.json"))) == 2


@pytest.mark.slow
def test_a_cluster_that_loses_an_actor(file, monkeypatch):
    """Ray says so by an error of its own: each task is tried once more, by itself."""
    lost = type("RayActorError", (Exception,), {"__module__": "ray.exceptions"})
    calls = []

    class Parallel:
        def __init__(self, **how):
            pass

        def __call__(self, tasks):
            calls.append(len(tasks := list(tasks)))
            if len(calls) == 1:
                raise lost("the actor died")
            return [function(*args, **options) for function, args, options in tasks]

    monkeypatch.setattr(parallel.joblib, "Parallel", Parallel)
    monkeypatch.setattr(parallel, "_here", parallel._in_parallel())
    assert run(file) == 0 and calls == [3, 1, 1, 1] and measured(file) == ["1", "2", "3"]


@pytest.mark.slow
def test_a_task_that_dies_for_good(file, tmp_path, capfd):
    """By a signal in a worker: its settings are told, and the others are kept."""
    file.write_text(FILE.replace("(HERE / \"signal\").exists()", "True").replace("int((HERE / \"signal\").read_text())", "signal.SIGKILL").replace("(HERE / \"signal\").unlink()", "pass"))  # fmt: skip
    assert run(file, "--jobs", 2) == 2
    told = " ".join(capfd.readouterr().err.replace("│", " ").split())
    assert "1 of 3 measurements failed. The others are saved." in told and "sizes=[2]" in told and "SIGKILL" in told
    assert measured(file).count("2") == 2  # once, and once more
    assert len(list((tmp_path / "cache" / "tasks").glob("*.json"))) == 2


@pytest.mark.slow
def test_a_worker_that_is_told_to_go(file, tmp_path):
    """Its task is measured again."""
    (tmp_path / "signal").write_text(str(int(signal.SIGTERM)))
    assert run(file, "--jobs", 2) == 0
    assert sorted(measured(file)).count("2") >= 2
    assert pd.read_csv(tmp_path / "runs" / "kept" / "table.csv").steps.tolist() == [20, 40, 60]
