"""`vbayes train` that is killed, terminated, interrupted, or finds its folder taken: what was learned is there, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.faults.processes import in_a_child
from vbayes.cli import app as cli
from vbayes.cli import keep, train
from vbayes.errors import OutputUnwritable
from vbayes.runs.run_folder import hidden_of, run_folder
from vbayes.training.autosave import Autosave

COMMAND = ("train", "normal_normal", "--steps", 60)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk")


@pytest.fixture
def light(monkeypatch):
    """No figures and draws, which take longest."""
    monkeypatch.setattr(train, "DRAWS", 0)
    monkeypatch.setattr(keep, "save_figure", lambda figure, path: path.touch())
    monkeypatch.setattr(keep, "_diagnose", lambda *args: None)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Autosave, "due", lambda self, steps: True)  # after each call of the program
    return tmp_path


def vbayes(*args) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main([*map(str, args)])
    return int(end.value.code or 0)


def said(capfd) -> str:
    """On stderr, as one line."""
    return " ".join(capfd.readouterr().err.replace("│", " ").split())


def learned(folder):
    """Numbers to the last bit, the clock aside."""
    tensors = load_file(folder / "fit.safetensors")
    history = tensors["history"][:, :4]
    return {name: value for name, value in tensors.items() if name.startswith("parameter")} | {"history": history}


def same(folder, other):
    mine, theirs = learned(folder), learned(other)
    assert mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())


def dies(number, *command):
    """A training in a process that a signal meets after its third writing."""

    def work():
        kept, calls = Autosave.keep, []

        def keep_and_send(self, fit, **told):
            kept(self, fit, **told)
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), number)

        Autosave.keep = keep_and_send
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            cli.main([*map(str, command)])

    return in_a_child(work)


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    "out", [("--out", "run"), pytest.param((), marks=pytest.mark.slow)], ids=["--out", "by default"]
)
def test_killed(here, out):
    """The same command goes on, and leaves nothing else behind."""
    assert dies(signal.SIGKILL, *COMMAND, *out) == -signal.SIGKILL
    parent = here if out else here / "runs"
    (hidden,) = parent.iterdir()
    assert hidden.name.endswith(".unfinished") and 0 < len(learned(hidden)["history"]) < 60
    assert vbayes(*COMMAND, *out) == 0
    (folder,) = parent.iterdir()
    assert hidden_of(folder) == hidden and not {".lock", "unfinished.json"} & set(os.listdir(folder))
    assert vbayes(*COMMAND, "--out", "whole") == 0
    same(folder, here / "whole")


@pytest.mark.usefixtures("light")
def test_terminated(here, capfd):
    """Status 143, as clusters know it."""
    assert dies(signal.SIGTERM, *COMMAND, "--out", "run") == 143
    assert "saved. To continue, repeat the command or run `vbayes train --resume" in capfd.readouterr().err
    assert vbayes("train", "--resume", "run") == 0
    assert vbayes(*COMMAND, "--out", "whole") == 0
    same(here / "run", here / "whole")
    assert {entry.name for entry in here.iterdir()} == {"run", "whole"}


@pytest.mark.usefixtures("light")
def test_interrupted(here, capfd):
    """Ctrl-C leaves a folder to look at; the same command goes on in it, and replaces it when it is through."""
    assert dies(signal.SIGINT, *COMMAND, "--out", "run") == 0
    assert json.loads((here / "run" / "config.json").read_text())["interrupted"] is True
    assert vbayes(*COMMAND, "--seed", 1, "--out", "run") == 2  # another command
    assert "exists and is not an empty folder" in said(capfd)
    assert vbayes(*COMMAND, "--out", "run") == 0
    assert json.loads((here / "run" / "config.json").read_text())["interrupted"] is False
    assert vbayes(*COMMAND, "--out", "whole") == 0
    same(here / "run", here / "whole")
    assert vbayes("train", "--resume", "run") == 2  # finished


@pytest.mark.usefixtures("light")
def test_what_can_not_be_gone_on_with(here, capfd):
    (here / "mine.py").write_text("import vbayes as vb\ndef pair():\n    return vb.pairs.normal_normal()\n")
    own = ("train", "mine:pair", "--data", "normal_normal", "--steps", 60, "--out", "own")
    assert dies(signal.SIGKILL, *own) == -signal.SIGKILL

    def says(words, *command):
        capfd.readouterr()
        assert vbayes("train", *command) == 2
        assert words in said(capfd)

    says("there is no run to continue", "--resume", "nowhere")
    says("code is not run just because a run folder names it", "--resume", "own")
    says("the run has seed 0, not 1", "mine:pair", "--seed", 1, "--resume", "own")
    says("Wanted: one of them", "--resume", "own", "--out", "other")
    told = here / ".own.unfinished" / "unfinished.json"
    whole = told.read_text()
    for damage in ("", "[]", '{"arguments": 1}', whole.replace('"steps": 60', '"steps": "60"')):
        told.write_text(damage)
        says("is damaged", "--resume", "own")
    told.write_text(whole)
    assert vbayes("train", "mine:pair", "--resume", "own") == 0
    sys.modules.pop("mine")


@pytest.mark.usefixtures("light")
def test_a_run_folder_runs_no_code(here, capfd):
    """Of somebody who says in it which code would make the rest."""
    assert vbayes(*COMMAND, "--out", "run") == 0
    (here / "evil.py").write_text("open('it ran', 'w').close()\ndef pair():\n    pass\n")
    asked = {"pair": "evil:pair", "data": "normal_normal", "seed": 0}
    (here / "run" / "unfinished.json").write_text(json.dumps({"arguments": asked, "left": "rest"}))
    assert vbayes(
        "report", "run"
    ) == 2 and "is Python code, which is not run just because a run folder names it" in said(capfd)
    assert vbayes("train", "--resume", "run") == 2 and not (here / "it ran").exists()


def test_a_second_process_learns_it_at_the_start(here):
    """Before it has done any work; and when the first has died, nobody has to believe its number."""
    started, go = here / "started", here / "go"

    def work():
        with run_folder(here / "run") as place:
            (place.path / "half").touch()
            started.touch()
            while not go.exists():
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGKILL)

    def first():
        assert in_a_child(work) == -signal.SIGKILL

    process = os.fork()
    if not process:
        first()
        os._exit(0)
    while not started.exists():
        time.sleep(0.005)
    with pytest.raises(OutputUnwritable, match=r"Another process \(\d+\) is writing to (.|\n)*one process at a time"):
        with run_folder(here / "run"):
            pytest.fail("it was let in")
    assert (here / ".run.unfinished" / "half").exists()
    go.touch()
    assert os.waitpid(process, 0)[1] == 0
    with run_folder(here / "run") as place:  # what the dead one left is gone
        assert sorted(os.listdir(place.path)) == [".lock", "environment.json"][:1]
        place.publish()
    assert [entry.name for entry in here.iterdir() if entry.is_dir()] == ["run"]


def test_killed_between_the_old_folder_and_the_new(here):
    """What a replacement that never came has put aside is put back, or goes once there is a new one."""
    older = hidden_of(here / "run", ".older")
    older.mkdir()
    (older / "old").touch()
    with pytest.raises(ZeroDivisionError), run_folder(here / "run", replaces=True):
        1 / 0  # noqa: B018
    assert [entry.name for entry in here.iterdir()] == ["run"] and os.listdir("run") == ["old"]
    os.rename("run", older)
    with run_folder(here / "run", replaces=True) as place:
        (place.path / "new").touch()
        place.publish()
    assert [entry.name for entry in here.iterdir()] == ["run"] and "new" in os.listdir("run")


@pytest.mark.usefixtures("light")
def test_a_second_interrupt_in_the_figures(here, monkeypatch, capfd):
    """The fit has its place by then, and `vbayes report` makes the rest."""
    drawn = keep.save_figure
    monkeypatch.setattr(keep, "save_figure", lambda figure, path: os.kill(os.getpid(), signal.SIGINT))
    assert vbayes(*COMMAND, "--out", "run") != 0
    assert "`vbayes report" in said(capfd)
    assert {"fit.safetensors", "history.csv", "config.json"} <= set(os.listdir("run"))
    monkeypatch.setattr(keep, "save_figure", drawn)
    assert vbayes("report", "run") == 0
    assert {"training.png", "report.html"} <= set(os.listdir("run")) and "unfinished.json" not in os.listdir("run")
    assert vbayes("report", "run") == 0


@pytest.mark.usefixtures("light")
def test_a_last_writing_that_fails(here, monkeypatch):
    """What is in the folder in the end is the fit, not what it was on the way."""
    written = Autosave.keep
    monkeypatch.setattr(Autosave, "keep", lambda self, fit, **told: fit.steps < 60 and written(self, fit, **told))
    assert vbayes(*COMMAND, "--out", "run") == 0
    assert len(learned(here / "run")["history"]) == 60


@needs_root
@pytest.mark.parametrize("room", ["draws", "nothing"])
def test_a_full_disk(here, monkeypatch, capfd, room):
    """After the fit: it is kept, and the rest is made where there is room again. Before: known before the first step."""
    disk = here / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        (disk / "filling").write_bytes(bytes((396 if room == "nothing" else 300) * 1024))
        code = vbayes(*COMMAND, "--out", disk / "run")
        told = said(capfd)
        assert code == 2 and ("Fix:" in told or "Choose another" in told), told
        if room == "nothing":
            assert os.listdir(disk) == ["filling"]
            return
        assert "makes the rest" in told and len(learned(disk / "run")["history"]) == 60
        (disk / "filling").unlink()
        subprocess.run(["mount", "-o", "remount,size=9m", str(disk)], check=True)
        assert vbayes("report", disk / "run") == 0
        assert {"posterior.nc", "diagnosis.png", "report.html"} <= set(os.listdir(disk / "run"))
        assert not [name for name in os.listdir(disk / "run") if "part" in name or name == "unfinished.json"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)  # whatever still looks at it
