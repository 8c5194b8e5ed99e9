"""What type checkers and editors know of the public verbs: right calls pass, and each wrong one is an error on its line."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import typing
from importlib.util import find_spec
from pathlib import Path

import pytest

import vbayes as vb

HERE = Path(__file__).parent
CALLS = HERE / "calls.py"
WRONG = [number for number, line in enumerate(CALLS.read_text().splitlines(), start=1) if line.endswith("# wrong")]
OUR_OWN = {"SVI", "Estimator"}  # whose arguments are those of Pyro's class, or of each estimator


def arguments(function) -> dict[str, typing.Any]:
    return {name: each.default for name, each in inspect.signature(function).parameters.items() if name != "self"}


@pytest.mark.slow
def test_mypy_knows_right_from_wrong(tmp_path):
    command = [sys.executable, "-m", "mypy", "--config-file", str(HERE / "mypy.ini"), "--cache-dir", str(tmp_path)]
    told = subprocess.run([*command, str(CALLS)], capture_output=True, text=True, cwd=HERE.parents[1])
    assert not told.stderr and sorted({int(n) for n in re.findall(r"calls\.py:(\d+): error", told.stdout)}) == WRONG


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is not installed")
def test_so_does_pyright(tmp_path):
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(HERE.parents[1])], "include": ["."]}))
    (tmp_path / "calls.py").write_text(CALLS.read_text())
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)["generalDiagnostics"]
    lines = {each["range"]["start"]["line"] + 1 for each in told if each["severity"] == "error"}
    assert sorted(lines) == WRONG


@pytest.mark.parametrize("number", [0, 1])
def test_the_overloads_of_fit_have_all_of_its_arguments(number):
    overload = typing.get_overloads(inspect.unwrap(vb.fit))[number]
    mine, all_of_them = arguments(overload), arguments(vb.fit)
    assert list(mine) == list(all_of_them)
    written = {name for name, default in mine.items() if default is not ... and name != "restarts"}
    assert {name: mine[name] for name in written} == {name: all_of_them[name] for name in written}


@pytest.mark.parametrize("name", ["diagnose", "posterior", "linear_response", "to_arviz"])
def test_a_method_has_the_arguments_of_its_verb(name):
    (_, *wanted), method = arguments(getattr(vb, name)).items(), arguments(getattr(vb.Fit, name))
    assert method == dict(wanted) | ({"method": None} if name == "posterior" else {})
    if name == "to_arviz":
        assert arguments(vb.Restarts.to_arviz) == method


def test_comparing_models_takes_what_an_evidence_takes():
    (_, _, *wanted), mine = arguments(vb.log_evidence).items(), arguments(vb.compare_models)
    assert mine == {"models": mine["models"], "data": mine["data"], "prior": None} | dict(wanted)


@pytest.mark.parametrize("name", sorted(set(vb.__all__) - OUR_OWN))
def test_no_verb_hides_its_arguments(name):
    thing = getattr(vb, name)
    if callable(thing):
        kinds = {each.kind for each in inspect.signature(thing).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds
