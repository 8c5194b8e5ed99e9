"""Processes without a home, in folders that can't be written, under names that are too long, and whose output nobody reads."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import pooch
import pytest

import vbayes as vb
from tests.faults.processes import in_a_child
from vbayes import home
from vbayes.cli import app as cli
from vbayes.cli import keep, train
from vbayes.data import datafile
from vbayes.errors import OutputUnwritable
from vbayes.runs import folder as folders
from vbayes.runs.run_folder import hidden_of, run_folder
from vbayes.staging.native import private_folder
from vbayes.training.autosave import Autosave

COMMAND = ("train", "normal_normal", "--steps", "60")
NOBODY = 12345
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
pytestmark = pytest.mark.on_cpu


@pytest.fixture
def light(monkeypatch):
    """No figures and draws, which take longest."""
    monkeypatch.setattr(train, "DRAWS", 0)
    monkeypatch.setattr(keep, "save_figure", lambda figure, path: path.touch())
    monkeypatch.setattr(keep, "_diagnose", lambda *args: None)


def nobody():
    """This process becomes a user who has no entry and no home."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    for name in list(os.environ):
        if name.startswith(("XDG", "HOME", "USER", "LOGNAME", "VBAYES_CACHE")):
            del os.environ[name]


@needs_root
@pytest.mark.parametrize("given", [None, "/"], ids=["no HOME", "HOME=/"])
def test_without_a_home(capfd, given):
    """As under `docker run -u 12345`: data and machine code have a private folder, and one line says so."""
    assert pooch.__name__ and vb.data.normal_normal  # imported before this process is somebody who can't read them

    def work():
        nobody()
        if given:
            os.environ["HOME"] = given
        home._temporary.cache_clear()
        private_folder._nowhere.cache_clear()
        cache = datafile.cache()
        cache.mkdir(parents=True)
        assert cache.is_relative_to(home.temporary()) and home.temporary().stat().st_mode & 0o777 == 0o700
        home.settle()
        assert private_folder.private_folder()[0].is_relative_to(home.temporary())
        shutil.rmtree(home.temporary())

    assert in_a_child(work) == 0
    said = capfd.readouterr().err.splitlines()
    assert len([line for line in said if "no writable home directory" in line and "Fix: set HOME" in line]) == 1, said


@needs_root
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_whole_training_without_a_home(tmp_path):
    """With all that other packages want of a home; the folder in its place is gone in the end."""
    tmp_path.chmod(0o777)
    only = "-all,+dac_read_search"  # so that it can read this Python, wherever it is
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", f"--inh-caps={only}", f"--ambient-caps={only}"]  # fmt: skip
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(vb.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*become, sys.executable, "-m", "vbayes", *COMMAND, "--out", tmp_path / "run"],
        env=bare, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    if "setpriv:" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0 and done.stderr.count("no writable home") == 1, done.stderr
    assert {"posterior.nc", "report.html"} <= set(os.listdir(tmp_path / "run"))
    (place,) = re.findall(r"stored in (\S+vbayes-home-\w+)", done.stderr)
    assert not Path(place).exists()


@needs_root
def test_a_folder_that_can_not_be_written(capfd):
    """It is known before the training."""

    def work():
        nobody()
        os.chdir(there)
        cli.main(list(COMMAND))

    with tempfile.TemporaryDirectory() as there:  # not below pytest's own, which nobody may enter
        Path(there).chmod(0o555)
        status = in_a_child(work)
    told = capfd.readouterr()
    assert status == 2, told.err
    assert "Can't write to" in told.err and "ELBO" not in told.out


def test_long_names(tmp_path):
    """As long as a file system bears; what is longer is told before any work."""
    name = "n" * 250
    with run_folder(tmp_path / name) as place:
        assert len(place.path.name) < 100
        place.publish()
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    with pytest.raises(OutputUnwritable, match="too long"), run_folder(tmp_path / ("n" * 256)):
        pytest.fail("it began")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.usefixtures("light")
def test_a_folder_that_is_removed_under_a_training(tmp_path, monkeypatch):
    """What was learned is written all the same."""
    monkeypatch.chdir(tmp_path)
    kept, calls = Autosave.keep, []

    def keep_and_remove(self, fit, **told):
        kept(self, fit, **told)
        calls.append(1)
        if len(calls) == 1:
            shutil.rmtree("out")

    monkeypatch.setattr(Autosave, "keep", keep_and_remove)
    with pytest.warns(UserWarning, match="could not be saved"), pytest.raises(SystemExit) as end:
        cli.main([*COMMAND, "--out", "out/run"])
    assert not end.value.code and {"fit.safetensors", "report.html"} <= set(os.listdir("out/run"))
    assert not hidden_of(tmp_path / "out" / "run").exists()


def test_a_clock_that_goes_back(tmp_path, monkeypatch):
    """Two runs of one second, or of one hour that came twice, have two folders."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 10, 25, 2, 30)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "datetime", Stopped)
    names = []
    for _ in range(3):
        folder = folders.default_folder("train", "vae")
        names.append(folder.name)
        with run_folder(folder) as place:
            assert folders.default_folder("train", "vae") != folder  # while it runs, too
            place.publish()
    assert names == ["train-vae-20261025-023000", "train-vae-20261025-023000-2", "train-vae-20261025-023000-3"]


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("command", [("list",), (*COMMAND, "--out", "run")], ids=["list", "train"])
def test_output_that_nobody_reads(tmp_path, capfd, command):
    """`vbayes list | head`: no traceback; and a training goes on to its end."""

    def work():
        os.chdir(tmp_path)
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        cli.console.file = sys.stdout
        cli.main(list(command))

    assert in_a_child(work) == 0
    assert "Traceback" not in capfd.readouterr().err
    assert command == ("list",) or (tmp_path / "run" / "report.html").exists()
