"""The command line in this process."""

from __future__ import annotations

import subprocess

import pytest

from vbayes.cli import main


@pytest.fixture
def inside(tmp_path, monkeypatch, capsys):
    """Which saves three seconds of importing."""
    monkeypatch.chdir(tmp_path)

    def run(*args) -> subprocess.CompletedProcess:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([*map(str, args)])
        return subprocess.CompletedProcess(args, int(end.value.code or 0), *capsys.readouterr())

    return run
