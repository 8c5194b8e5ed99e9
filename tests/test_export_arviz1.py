"""The export beside ArviZ 1.x, which needs Python 3.12: in an environment of its own, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.test_export import PLACE, groups, same
from vbayes import export

ROOT = Path(__file__).parents[1]
PACKAGES = ("arviz[h5netcdf,matplotlib]>=1,<2", "lazy_loader", "pytest")


def modern_python() -> str | None:
    """A Python ≥ 3.12 on this machine."""
    names = [shutil.which(f"python3.{minor}") for minor in (12, 13, 14)]
    found = [os.environ.get("VBAYES_PYTHON312"), *names]
    found += sorted(map(str, Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python")))
    for candidate in filter(None, found):
        asked = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info >= (3, 12))"], capture_output=True, text=True
        )
        if asked.stdout.strip() == "True":
            return candidate
    return None


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> str:
    if not (base := modern_python()):
        reason = "no Python ≥ 3.12 found (set VBAYES_PYTHON312): ArviZ 1.x is NOT tested here"
        print(f"\n*** {reason} ***", file=sys.__stderr__)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("arviz1")
    subprocess.run([base, "-m", "venv", folder], check=True, capture_output=True)
    python = str(folder / "bin" / "python")
    done = subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], capture_output=True, text=True)
    if done.returncode:
        reason = f"ArviZ 1.x can't be installed, so it is NOT tested here: {done.stderr[-300:]}"
        print(f"\n*** {reason} ***", file=sys.__stderr__)
        pytest.skip(reason)
    return python


@pytest.mark.slow
def test_the_export_tests_pass_there_and_files_go_both_ways(python, tmp_path):
    with warnings.catch_warnings():
        data = export.from_arrays(groups(), dims=PLACE, coords={"school": list("ABCDEFGH")})
    export.to_netcdf(data, tmp_path / "theirs.nc")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    version = "import arviz, sys; print(arviz.__version__, 'torch' in sys.modules)"
    assert subprocess.run([python, "-c", version], capture_output=True, text=True).stdout.startswith("1.")
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
        [*command, str(ROOT / "tests" / "test_export.py")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout and " passed" in done.stdout
    assert same(data, export.from_netcdf(tmp_path / "ours.nc"))
