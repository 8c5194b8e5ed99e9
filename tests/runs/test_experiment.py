"""`vbayes run`: a question in a file, its folder, and what is wrong with a file that is none."""

from __future__ import annotations

import json

import pytest
import torch

from vbayes.cli import app as cli
from vbayes.cli.experiments import MOST_ROWS
from vbayes.runs import fingerprint
from vbayes.runs.experiment import load
from vbayes.runs.run import Asked

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


def test_a_run_says_where_it_was_made(file, tmp_path, monkeypatch):
    """On a machine with a card too, which `device="auto"` in an experiment takes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H200")
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", list)
    assert run(file, "--out", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "environment.json").read_text())
    assert found["device"].startswith("auto: H200") and found["float32_matmul_precision"] == "highest"


def test_a_long_table(file, tmp_path, capsys):
    """The terminal shows its head, and where the rest is."""
    out, numbers = tmp_path / "out", range(MOST_ROWS + 12)
    assert run(file, "--out", out, "--set", f"numbers={','.join(map(str, numbers))}") == 0
    shown = capsys.readouterr().out
    assert f"{10 * (MOST_ROWS - 1) ** 2:,}" in shown
    assert f"{10 * MOST_ROWS**2:,}" not in shown and "… and 12 more rows: " in shown
    assert len((out / "table.csv").read_text().splitlines()) == len(numbers) + 1


def test_quick_settings(file, tmp_path):
    assert run(file, "--quick", "--out", tmp_path / "out") == 0
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["rows"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    {
        "unknown": (("--set", "numbrs=1"), "has no setting 'numbrs'"),
        "no value": (("--set", "numbers"), "has no value. Wanted: NAME=VALUE"),
        "type": (("--set", "numbers=one"), "Wanted: an integer"),
        "truth": (("--set", "loud=maybe"), "Wanted: true or false"),
    }.values(),
)
def test_wrong_settings(file, tmp_path, capsys, arguments, message):
    assert run(file, "--out", tmp_path / "out", *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Two experiments that keep count of their measurements, and one that fails, in ./experiments."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "beside.py").write_text("FACTOR = 10\n")
    body = FILE.replace("def measure", "from pathlib import Path\n\ndef measure").replace(
        "    rows =",
        "    with open(Path(__file__).with_suffix('.count'), 'a') as file:\n        file.write('x')\n    rows =",
    )
    (folder / "squares.py").write_text(body)
    (folder / "others.py").write_text(body.replace("Do squares grow?", "Do others?"))
    (folder / "broken.py").write_text(FILE.replace("rows = [", "rows = [][0] or ["))
    (folder / "long.py").write_text(FILE.replace("sections", "slow='it takes days', sections"))
    monkeypatch.chdir(tmp_path)

    def count(name: str) -> int:
        kept = folder / f"{name}.count"
        return len(kept.read_text()) if kept.exists() else 0

    return count


def test_a_folder_has_a_page(counted, tmp_path, capsys):
    (tmp_path / "experiments" / "broken.py").unlink()
    assert run("experiments", "--quick") == 0
    page = (tmp_path / "runs" / "experiments-quick.html").read_text()
    assert "runs/experiments-quick.html" in capsys.readouterr().out
    assert page.index("Do others?") < page.index("Do squares grow?"), "in the order of the files"
    assert page.count("data:image/png") == 2 and page.count("They do.") == 2 and page.count("Up to 40.") == 2


def test_all_of_them(counted, tmp_path, capsys):
    assert run("--all", "--quick") == 1
    shown = capsys.readouterr()
    assert "Failed: broken." in shown.err and "IndexError" in shown.out and "it takes days" in shown.out
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"squares-quick", "others-quick", "index.html"}
    page = (tmp_path / "runs" / "index.html").read_text()
    assert "Do squares grow?" in page and "Do others?" in page and "squares-quick/report.html" in page

    assert run("--all", "--quick", "--out", "elsewhere") == 1
    assert (counted("squares"), counted("others")) == (2, 2)
    (tmp_path / "experiments" / "broken.py").unlink()
    assert run("--all", "--quick") == 0
    shown = capsys.readouterr().out
    assert (counted("squares"), counted("others")) == (2, 2) and shown.count("unchanged") == 2
    assert run(tmp_path / "experiments" / "long.py", "--set", "numbers=1") == 0  # named, it runs
    assert (tmp_path / "runs" / "long-numbers=1" / "table.csv").exists()


def test_what_is_unchanged_is_not_run_again(counted, tmp_path, capsys):
    file = tmp_path / "experiments" / "squares.py"
    assert run(file) == 0
    first = capsys.readouterr().out
    assert run(file) == 0 and counted("squares") == 1
    again = capsys.readouterr().out
    assert (
        "Unchanged" in again
        and again.replace("Unchanged: showing the saved run; --force runs it again.\n", "") == first
    )
    environment = json.loads((tmp_path / "runs" / "squares" / "environment.json").read_text())
    assert environment["seconds"] >= 0 and {"git", "torch", "seed", "device"} <= set(environment)

    assert run(file, "--force") == 0 and counted("squares") == 2
    (tmp_path / "experiments" / "beside.py").write_text("FACTOR = 20\n")  # what it imports counts too
    assert run(file) == 0 and counted("squares") == 3
    assert "Up to 180." in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["squares"]  # replaced, and nothing left behind
    (tmp_path / "runs" / "squares" / "table.csv").unlink()
    assert run(file) == 0 and counted("squares") == 4


def test_a_failure_leaves_the_older_run(counted, tmp_path):
    file = tmp_path / "experiments" / "squares.py"
    assert run(file) == 0
    before = (tmp_path / "runs" / "squares" / "config.json").read_text()
    file.write_text(file.read_text().replace("rows = [", "rows = [][0] or ["))
    with pytest.raises(IndexError):
        cli.main(["run", str(file)])
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["squares"]
    assert (tmp_path / "runs" / "squares" / "config.json").read_text() == before


def test_a_folder_of_ones_own_is_replaced_only_by_force(counted, tmp_path, capsys):
    file, out = tmp_path / "experiments" / "squares.py", tmp_path / "mine"
    assert run(file, "--out", out) == 0 and run(file, "--out", out) == 0 and counted("squares") == 1
    assert run(file, "--out", out, "--seed", 1) == 2 and counted("squares") == 1
    assert "is not an empty folder" in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert run(file, "--out", out, "--seed", 1, "--force") == 0 and counted("squares") == 2
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").touch()
    assert run(file, "--out", tmp_path / "full", "--force") == 2 and (tmp_path / "full" / "thing").exists()


def test_the_fingerprint(file, tmp_path, monkeypatch):
    seen = {fingerprint.fingerprint(file, seed=0)}
    assert fingerprint.fingerprint(file, seed=0) in seen
    seen.add(fingerprint.fingerprint(file, seed=1))
    file.write_text(FILE + "\n")
    seen.add(fingerprint.fingerprint(file, seed=0))
    (tmp_path / "beside.py").write_text("from parts import deep\nFACTOR = 10\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "deep.py").write_text("")
    seen.add(fingerprint.fingerprint(file, seed=0))
    (tmp_path / "parts" / "deep.py").write_text("1\n")
    seen.add(fingerprint.fingerprint(file, seed=0))
    (tmp_path / "nothing_to_do_with_it.py").write_text("2\n")
    assert fingerprint.fingerprint(file, seed=0) in seen
    monkeypatch.setattr(fingerprint, "_version", lambda package: "another")
    seen.add(fingerprint.fingerprint(file, seed=0))
    assert len(seen) == 6


def test_the_name_of_a_folder():
    assert Asked().folder_name("qmc") == "qmc"
    assert (
        Asked(quick=True, given={"b": "2, 8", "a": "x/y"}, seeds=(3,)).folder_name("qmc")
        == "qmc-quick-a=xy-b=2,8-seed=3"
    )
    long = [Asked(given={"a": "1" * 200 + end}).folder_name("qmc") for end in "12"]
    assert len(set(long)) == 2 and max(map(len, long)) <= 100


def test_a_neighbour_of_the_same_name(file, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "beside.py").write_text("FACTOR = 3\n")
    (other / "cubes.py").write_text(FILE)
    for path, factor in ((file, 10), (other / "cubes.py", 3), (file, 10)):
        with load(path) as experiment:
            assert experiment.measure(numbers=[1], name="", loud=False).square[0] == factor


@pytest.mark.parametrize("text", ["3", "0.5", "none", "some"])
def test_a_setting_that_is_none(file, text):
    file.write_text(FILE.replace('"loud": False', '"loud": False, "free": None'))
    with load(file) as experiment:
        value = experiment.settings(quick=False, given={"free": text})["free"]
    assert value == {"3": 3, "0.5": 0.5, "none": None, "some": "some"}[text]
    assert type(value) is type({"3": 3, "0.5": 0.5, "none": None, "some": ""}[text])


def test_nothing_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        ((), "There is nothing to run"),
        (("--all",), "no experiment in experiments"),
        ((tmp_path,), "no experiment in"),
        (("a/x.py", "b/x.py"), "would use the same run folder"),
    ):
        assert run(*arguments) == 2
        assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_file_that_is_none(tmp_path, capsys):
    assert run(tmp_path / "nowhere.py") == 2
    (tmp_path / "empty.py").write_text("x = 1\n")
    assert run(tmp_path / "empty.py") == 2
    assert "has no vb.Experiment" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_the_projects_own_load():
    from pathlib import Path

    files = sorted((Path(__file__).parents[2] / "experiments").glob("*.py"))
    assert files
    for path in files:
        with load(path) as experiment:
            assert set(experiment.quick) <= set(experiment.full) and experiment.question.endswith("?")
