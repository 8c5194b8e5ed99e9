"""`vbayes run`: a question in a file, its folder, and what is wrong with a file that is none."""

from __future__ import annotations

import json

import pytest

from vbayes import cli
from vbayes.experiment import load

FILE = """
import pandas as pd
from matplotlib import pyplot
from beside import FACTOR
import vbayes as vb

def measure(numbers, name, loud):
    rows = [{"what": name, "number": n, "square": FACTOR * float(n * n)} for n in numbers]
    return pd.DataFrame(rows)

def figure(table):
    drawn, ax = pyplot.subplots()
    ax.plot(table.number, table.square)
    return drawn

experiment = vb.Experiment(
    question="Do squares grow?", claim="They do.", measure=measure,
    full={"numbers": (1, 2, 3), "name": "squares", "loud": False}, quick={"numbers": (1, 2)},
    figure=figure, verdict=lambda table: f"Up to {table.square.max():g}.", sections=("what",),
)
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "beside.py").write_text("FACTOR = 10\n")
    path = tmp_path / "squares.py"
    path.write_text(FILE)
    return path


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", *map(str, args)])
    return int(caught.value.code or 0)


def test_a_run(file, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(file, "--out", out, "--set", "numbers=2,5", "--set", "loud=yes") == 0
    shown = capsys.readouterr().out
    assert "Do squares grow?" in shown and "250" in shown and "Up to 250." in shown and "squares" in shown
    results = json.loads((out / "results.json").read_text())
    assert results["verdict"] == "Up to 250." and results["rows"] == [["squares", 2, 40.0], ["squares", 5, 250.0]]
    config = json.loads((out / "config.json").read_text())
    assert config["numbers"] == [2, 5] and config["loud"] is True and config["quick"] is False
    page = (out / "report.html").read_text()
    assert "Do squares grow?" in page and "They do." in page and "Up to 250." in page and "data:image/png" in page
    assert {p.name for p in out.iterdir()} >= {"table.csv", "figure.png", "environment.json"}


def test_quick_settings(file, tmp_path):
    assert run(file, "--quick", "--out", tmp_path / "out") == 0
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["rows"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    {
        "unknown": (("--set", "numbrs=1"), "has no setting 'numbrs'"),
        "no value": (("--set", "numbers"), "has no value. Wanted: NAME=VALUE"),
        "type": (("--set", "numbers=one"), "Wanted: int"),
        "truth": (("--set", "loud=maybe"), "Wanted: true or false"),
    }.values(),
)
def test_wrong_settings(file, tmp_path, capsys, arguments, message):
    assert run(file, "--out", tmp_path / "out", *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_none(tmp_path, capsys):
    assert run(tmp_path / "nowhere.py") == 2
    (tmp_path / "empty.py").write_text("x = 1\n")
    assert run(tmp_path / "empty.py") == 2
    assert "has no vb.Experiment" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_the_projects_own_load():
    from pathlib import Path

    files = sorted((Path(__file__).parents[1] / "experiments").glob("*.py"))
    assert files
    for path in files:
        with load(path) as experiment:
            assert set(experiment.quick) <= set(experiment.full) and experiment.question.endswith("?")
