"""The export beside ArviZ 1.x, which needs Python 3.12: in an environment of its own, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.export.test_arviz import PLACE, groups, same
from vbayes.export import arviz as export

ROOT = Path(__file__).parents[2]
PACKAGES = ("arviz[h5netcdf,matplotlib]>=1,<2", "lazy_loader", "pytest")


def modern_python() -> str | None:
    """A Python ≥ 3.12 on this machine."""
    names = [shutil.which(f"python3.{minor}") for minor in (12, 13, 14)]
    found = [os.environ.get("VBAYES_PYTHON312"), *names]
    found += sorted(map(str, Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python")))
    for candidate in filter(shutil.which, filter(None, found)):
        asked = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info >= (3, 12))"], capture_output=True, text=True
        )
        if asked.stdout.strip() == "True":
            return candidate
    return None


@pytest.fixture
def python(tmp_path, capsys) -> str:
    def skip(reason: str):
        with capsys.disabled():  # where a captured line would be lost
            print(f"\n*** ArviZ 1.x is NOT tested here: {reason} ***")
        pytest.skip(reason)

    if not (base := modern_python()):
        skip("no Python ≥ 3.12 found (set VBAYES_PYTHON312)")
    folder = tmp_path / "arviz1"
    python = str(folder / "bin" / "python")
    for command in ([base, "-m", "venv", folder], [python, "-m", "pip", "install", "-q", "--no-compile", *PACKAGES]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            skip(f"it can't be installed: {(done.stdout + done.stderr)[-300:]}")
    return python


@pytest.mark.slow
def test_the_export_tests_pass_there_and_files_go_both_ways(python, tmp_path):
    data = export.from_arrays(groups(), dims=PLACE, coords={"school": list("ABCDEFGH")}, attrs={"pair": "toy"})
    export.to_netcdf(data, tmp_path / "theirs.nc")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    code = "import arviz, importlib.util as u; print(arviz.__version__.split('.')[0], u.find_spec('torch'))"
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True)
    assert asked.stdout.split() == ["1", "None"], asked.stdout + asked.stderr
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "-c",
        str(tmp_path / "pytest.ini"),
        "--noconftest",
        "-p",
        "no:cacheprovider",
    ]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "VBAYES_EXCHANGE": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [*command, str(ROOT / "tests" / "export" / "test_arviz.py")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout and " passed" in done.stdout
    ours = export.from_netcdf(tmp_path / "ours.nc")
    assert same(data, ours) and ours.attrs["pair"] == ours["posterior"].attrs["pair"] == "toy"
    assert list(ours["posterior"]["school"].values) == list("ABCDEFGH")
