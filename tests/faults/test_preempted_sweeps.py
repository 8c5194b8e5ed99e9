"""Sweeps whose process is told to go, or whose tasks die: finished tasks are kept, and no table of a fit that came back early is."""

from __future__ import annotations

import os
import signal

import pandas as pd
import pytest

from tests.faults.processes import in_a_child
from vbayes.cli import app as cli

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
                       progress=False, callbacks=[lambda rows: send(size)])
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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_sweep_goes_on_where_it_was(file, tmp_path, number, status):
    """In this process: what is finished is kept; the fit that came back early is not taken for a measurement."""
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
def test_a_worker_that_is_told_to_go(file, tmp_path):
    """Its task is measured again."""
    (tmp_path / "signal").write_text(str(int(signal.SIGTERM)))
    assert run(file, "--jobs", 2) == 0
    assert sorted(measured(file)).count("2") >= 2
    assert pd.read_csv(tmp_path / "runs" / "kept" / "table.csv").steps.tolist() == [20, 40, 60]
