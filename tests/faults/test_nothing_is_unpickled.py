"""A pickle runs what it was made to run: nothing that lies on a disk is unpickled, least of all a kept table of a sweep."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vbayes.runs import table_file
from vbayes.runs.task import Task

ROOT = Path(__file__).parents[2]
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "jsonpickle"}
CALLS = {"read_pickle", "to_pickle", "Unpickler"}


def unpickling(source: str) -> list[str]:
    """The calls and imports of a source that may run what a file holds."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").split(".")[0] in UNPICKLERS else []
            found += [f"{node.module}.load" for a in node.names if (node.module, a.name) in {("torch", "load"), ("joblib", "load")}]  # fmt: skip
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called.split(".")[-1] in CALLS or called in ("joblib.load", "__import__('pickle').load"):
                found.append(called)
            if called == "torch.load" and given.get("weights_only") != "True":
                found.append(called)
            if given.get("allow_pickle", "False") != "False":
                found.append(f"{called}(allow_pickle)")
    return found


@pytest.mark.parametrize("room", ["vbayes", "experiments"])
def test_nothing_unpickles(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert len(files) > 20
    found = {str(file.relative_to(ROOT)): calls for file in files if (calls := unpickling(file.read_text("utf-8")))}
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import dill as d", "import pandas as pd; pd.read_pickle('x')",
        "import torch; torch.load('x')", "import torch; torch.load('x', weights_only=False)", "from torch import load",
        "import numpy as np; np.load('x', allow_pickle=True)", "import joblib; joblib.load('x')",
    ],
)  # fmt: skip
def test_it_would_be_seen(source):
    assert unpickling(source)


class Runs:
    """What makes a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (os.mkdir, (str(self.file),))


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path / "cache"))
    return Task(tmp_path / "asks.py", {}, 0, fingerprint="f" * 64)


TABLE = pd.DataFrame(
    {
        "value": [0.1, np.nextafter(1.0, 2), np.nan, -np.inf, 5e-324, -0.0],
        "single": np.array([0.1, 1, 2, 3, 4, np.inf], dtype=np.float32),
        "count": [2**62 + 1, -1, 2, 3, 4, 5],
        "right": [True, False, True, True, False, True],
        "name": ["a", "ü\n", "", "None", "\x00", "🙂"],
        "mixed": [None, 1, 2.5, "x", (1, [2, "y"]), {"a": np.float32(0.1)}],
    }
)


def test_a_table_comes_back_to_the_last_bit(task):
    tables = {
        "as it is": TABLE, "an index": TABLE.set_index("name"), "part": TABLE.iloc[1:5:2], "empty": TABLE.iloc[:0], "none": pd.DataFrame(),
        "numbered": pd.DataFrame(np.eye(2)), "a name twice": pd.concat([TABLE, TABLE], axis=1), "missing text": pd.DataFrame({"a": ["x", None]}),
    }  # fmt: skip
    for name, table in tables.items():
        task.keep(table)
        kept = task.kept()
        pd.testing.assert_frame_equal(
            kept, table, check_exact=True, check_index_type="exact", check_column_type="exact"
        )
        for place in range(table.shape[1]):
            column, again = table.iloc[:, place], kept.iloc[:, place]
            assert list(map(repr, column)) == list(map(repr, again)) and list(map(type, column)) == list(
                map(type, again)
            ), name


@pytest.mark.parametrize("name", ["pickle", "json"])
def test_a_planted_file_runs_nothing(task, tmp_path, name):
    """As a kept table used to be, and where one is looked for now: it is measured anew."""
    folder = tmp_path / "cache" / "tasks"
    folder.mkdir(parents=True)
    (folder / f"{task.fingerprint}.{name}").write_bytes(pickle.dumps(Runs(tmp_path / "it ran")))
    assert task.kept() is None
    task.keep(TABLE)
    assert task.kept() is not None and not (tmp_path / "it ran").exists()


def test_every_flipped_bit_is_seen(task, tmp_path):
    task.keep(TABLE.iloc[:1, ::3])
    (file,) = (tmp_path / "cache" / "tasks").iterdir()
    assert (tmp_path / "cache" / "tasks").stat().st_mode & 0o777 == 0o700
    whole = file.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        assert task.kept() is None, place
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        assert task.kept() is None, length


FORGED = {
    "no table": [], "nested": "[" * 100_000 + "]" * 100_000, "another type": {"dtype": "datetime64[ns]", "values": [0]}, "objects": {"dtype": "object", "values": [{"open": ["x"]}]},
    "two kinds": {"dtype": "object", "values": [{"list": [], "tuple": []}]}, "out of range": {"dtype": "int8", "values": [300]},
}  # fmt: skip


@pytest.mark.parametrize("forged", FORGED)
def test_forged_with_its_hash(task, tmp_path, forged):
    content = FORGED[forged]
    index = {"range": [0, 1, 1], "name": None}
    if isinstance(content, dict):
        content = {"index": index, "names": index, "columns": [content], "attrs": {"dict": []}}
    body = (content if isinstance(content, str) else json.dumps(content)).encode()
    folder = tmp_path / "cache" / "tasks"
    folder.mkdir(parents=True)
    head = f"{table_file.HEAD} {hashlib.sha256(body).hexdigest()}\n".encode()
    (folder / f"{task.fingerprint}.json").write_bytes(head + body)
    assert task.kept() is None


def test_links_and_pipes_in_the_cache(task, tmp_path):
    target = tmp_path / "somebody's file"
    target.write_bytes(table_file.to_bytes(TABLE))
    file = tmp_path / "cache" / "tasks" / f"{task.fingerprint}.json"
    file.parent.mkdir(parents=True)
    file.symlink_to(target)
    assert task.kept() is None
    task.keep(TABLE.iloc[:1])
    assert target.read_bytes() == table_file.to_bytes(TABLE) and len(task.kept()) == 1
    file.unlink()
    os.mkfifo(file)  # whoever opens it to read waits for a writer
    assert task.kept() is None


def test_what_is_not_kept_is_said(task):
    for table in (TABLE.assign(when=pd.Timestamp("2026-01-01")), TABLE.assign(what=[object()] * 6), TABLE.set_index(["count", "right"])):  # fmt: skip
        with pytest.warns(UserWarning, match="measured again each time"):
            task.keep(table)
        assert task.kept() is None


def test_a_cache_that_cannot_be_written(task, tmp_path, monkeypatch):
    """Costs no table that was measured."""
    (tmp_path / "cache").write_text("in the way of a folder")
    with pytest.warns(UserWarning, match="can't be saved(.|\n)*VBAYES_CACHE"):
        task.keep(TABLE)
    assert task.kept() is None
    monkeypatch.delenv("VBAYES_CACHE")

    def nowhere(name):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("vbayes.runs.task.platformdirs.user_cache_dir", nowhere)
    with pytest.warns(UserWarning, match="home directory"):
        task.keep(TABLE)
    assert task.kept() is None
