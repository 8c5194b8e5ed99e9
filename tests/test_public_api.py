"""The surface: every public name documented, importing it costs nothing."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vbayes as vb
from vbayes.cli.catalogue import estimators_in_markdown

ROOT = Path(__file__).parents[1]
NAMES = [name for name in vb.__all__ if not inspect.ismodule(getattr(vb, name))]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring(name):
    thing = getattr(vb, name)
    if callable(thing):
        assert thing.__doc__ and thing.__doc__[0] not in "\n "
        if inspect.isfunction(thing) and len(inspect.signature(thing).parameters) > 1:
            assert "Args:" in thing.__doc__


def test_every_public_name_is_in_the_reference():
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    assert len(NAMES) > 20
    missing = [name for name in NAMES if not re.search(rf"`(vb\.)?{name}\b", pages)]
    assert not missing


def test_every_public_name_has_its_entry():
    """Made from its docstring, in the reference by room."""
    spec = importlib.util.spec_from_file_location("entries", ROOT / "docs" / "hooks" / "entries.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")]
    entries = re.findall(r"^::: vbayes\.(\S+)$", "\n".join(map(hook.on_page_markdown, pages)), re.M)
    assert len(entries) == len(set(entries)) and not set(NAMES) - set(entries)
    assert not {f"plots.{name}" for name, f in vars(vb.plots).items() if inspect.isfunction(f)} - set(entries)


def test_importing_is_free():
    code = "import sys, vbayes; print({'torch', 'pyro', 'matplotlib', 'pandas', 'sklearn', 'arviz'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.slow
def test_each_of_the_readmes_examples_runs_by_itself(capsys):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    own_model, own_pair = re.findall(r"```python\n(.*?)```", readme, re.S)
    scope: dict = {}
    exec(compile(own_model, "README.md", "exec"), scope)
    assert "Converged" in scope["fit"].verdict() and scope["fit"].posterior().draws["t"].shape == (1000, 8)
    said = " ".join(capsys.readouterr().out.split())
    (shown,) = re.findall(r"^    Converged.*?method='psis'\)\.$", readme, re.S | re.M)
    assert re.sub(r"[\d.,]+", "0", " ".join(shown.split())) in re.sub(r"[\d.,]+", "0", said)  # in the same words

    scope = {}
    exec(compile(own_pair, "README.md", "exec"), scope)
    assert scope["fit"].convergence.converged and "stl gives the least gradient noise" in scope["result"].verdict()
    assert "posterior" in scope["idata"]


def test_the_readmes_two_commands_stand():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "\n    pip install -c constraints.txt . && vbayes compare\n" in readme
    assert "\n    pip install -c constraints.txt '.[test]' && pytest\n" in readme


def test_the_table_of_estimators_is_what_they_claim():
    assert estimators_in_markdown() in (ROOT / "docs" / "reference" / "estimators.md").read_text(encoding="utf-8")
