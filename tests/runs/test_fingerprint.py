"""What an experiment's numbers depend on: an edit anywhere in what it loads, or in its data, is seen."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from vbayes.cli import app as cli
from vbayes.errors import BadInput
from vbayes.runs import fingerprint as fingerprints
from vbayes.runs import sources
from vbayes.runs.experiment import load
from vbayes.runs.fingerprint import fingerprint
from vbayes.runs.task import UNFORESEEN, measure

FILE = """
import pandas as pd
from matplotlib import pyplot
import vbayes as vb
{imports}

def measure(n):
    {inside}
    return pd.DataFrame({{"value": [{value}]}})

experiment = vb.Experiment(
    question="?", claim="!", measure=measure, full={{"n": 1}}, quick={{}}, figure=lambda table: pyplot.figure(),
    verdict=lambda table: f"It is {{table.value[0]}}.", files={files},
)
"""
WAYS = {
    "a package of the user's, on the path": ("import mine.parts", "", "mine.parts.VALUE"),
    "by name": ("import importlib\nmine = importlib.import_module('mine.parts')", "", "mine.VALUE"),
    "a folder up": ("import sys\nsys.path.insert(0, str(__import__('pathlib').Path(__file__).parents[1]))\nfrom above import VALUE", "", "VALUE"),
    "through another file": ("from through import VALUE", "", "VALUE"),
    "only during the measurement": ("", "from mine.parts import VALUE", "VALUE"),
    "a function of it": ("from mine.other import value", "", "value()"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An experiment's folder, a file above it, and a package of the user's elsewhere on the path."""
    (tmp_path / "work").mkdir()
    (tmp_path / "above.py").write_text("VALUE = 10\n")
    (tmp_path / "library" / "mine").mkdir(parents=True)
    (tmp_path / "library" / "mine" / "__init__.py").write_text("")
    (tmp_path / "library" / "mine" / "parts.py").write_text("VALUE = 10\n")
    (tmp_path / "library" / "mine" / "other.py").write_text("from .parts import VALUE\ndef value(): return VALUE\n")
    (tmp_path / "work" / "through.py").write_text("from mine.parts import VALUE\n")
    monkeypatch.syspath_prepend(tmp_path / "library")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path / "cache"))
    yield tmp_path
    assert not {"mine", "above", "through"} & set(
        sys.modules
    )  # loaded anew each time, or old code would give new numbers


def write(folder, *, imports="", inside="pass", value="1", files="()"):
    path = folder / "work" / "asks.py"
    path.write_text(FILE.format(imports=imports, inside=inside or "pass", value=value, files=files))
    return path


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", *map(str, args)])
    return int(caught.value.code or 0)


@pytest.mark.parametrize("way", WAYS)
def test_an_edit_is_seen(folder, capsys, way):
    imports, inside, value = WAYS[way]
    path = write(folder, imports=imports, inside=inside, value=value)
    assert run(path) == 0 and "It is 10." in capsys.readouterr().out
    assert run(path) == 0 and "Unchanged" in capsys.readouterr().out
    for file in (folder / "above.py", folder / "library" / "mine" / "parts.py"):
        file.write_text("VALUE = 300\n")
    assert run(path) == 0
    shown = capsys.readouterr().out
    assert "It is 300." in shown and "Unchanged" not in shown


def test_what_is_only_loaded_while_measuring_is_never_kept(folder, capsys):
    """By a name that no statement shows."""
    path = write(
        folder, inside="import importlib; VALUE = importlib.import_module('mi' + 'ne.parts').VALUE", value="VALUE"
    )
    assert run(path) == 0 and "was imported only during the measurement" in " ".join(capsys.readouterr().out.split())
    (folder / "library" / "mine" / "parts.py").write_text("VALUE = 300\n")
    assert run(path) == 0 and "It is 300." in capsys.readouterr().out
    with load(path) as experiment:
        table = measure(experiment, path, {"n": 1}, 0)
    assert table.attrs[UNFORESEEN] and all("mine" in file for file in table.attrs[UNFORESEEN])


def test_data_files(folder, capsys):
    """Those of a folder too; one that there is not is said before anything is measured."""
    (folder / "work" / "numbers").mkdir()
    data = folder / "work" / "numbers" / "some.csv"
    data.write_text("value\n10\n")
    value = "pd.read_csv(vb.__file__ and __import__('pathlib').Path(__file__).parent / 'numbers' / 'some.csv').value[0]"
    path = write(folder, value=value, files="('numbers',)")
    assert run(path) == 0 and run(path) == 0 and "Unchanged" in capsys.readouterr().out
    data.write_text("value\n11\n")
    assert run(path) == 0 and "It is 11." in capsys.readouterr().out
    path = write(folder, files="('nowhere.csv',)")
    with (
        pytest.raises(BadInput, match=r"files names 'nowhere.csv', but .* does not exist.*Wanted: data files"),
        load(path),
    ):
        pass


def test_the_version_of_an_installed_package_counts(folder, monkeypatch):
    """Also of one that is not among the usual ones."""
    path = write(folder, imports="import jinja2")
    seen = {fingerprint(path)}
    assert "Jinja2" in {name.capitalize() if name == "jinja2" else name for name in sources.installed(path)}
    original = fingerprints._version
    monkeypatch.setattr(fingerprints, "_version", lambda name: "0" if name.lower() == "jinja2" else original(name))
    seen.add(fingerprint(path))
    assert len(seen) == 2


def test_neither_pythons_nor_installed_files_are_read(folder):
    path = write(folder, imports="import json, jinja2, torch.nn\nfrom through import VALUE")
    names = {str(file.relative_to(folder.resolve())) for file in sources.sources(path)}
    assert names == {"work/asks.py", "work/through.py"} | {
        f"library/mine/{n}.py" for n in ("__init__", "parts", "other")
    }


def test_an_edit_in_a_package_is_seen_by_a_task_too(folder):
    """A worker that lives on loads the new text, and knows it by the fingerprint."""
    from vbayes.runs.task import Task

    path = write(folder, imports="import mine.parts", value="mine.parts.VALUE")
    with load(path):
        sent = Task(path, {"n": 1}, 0).marked()
    pd.testing.assert_frame_equal(sent.measure(quiet=True), pd.DataFrame({"value": [10]}))
    (folder / "library" / "mine" / "parts.py").write_text("VALUE = 300\n")
    with pytest.raises(BadInput, match="A worker has a different"):
        sent.measure(quiet=True)
    with load(path):
        sent = Task(path, {"n": 1}, 0).marked()
    assert sent.measure(quiet=True).value[0] == 300
