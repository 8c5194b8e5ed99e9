"""JSON of a run folder with another value in each of its places: a page, or one error that names the file; never a bare one."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import vbayes as vb
from tests.comparison_table import made
from tests.quick import some_quick
from vbayes.errors import BadInput
from vbayes.laboratory.comparison import Comparison
from vbayes.runs.index import index, summary
from vbayes.runs.page import page

RESULTS = {"question": "Q?", "claim": "C.", "verdict": "V: 1.", "notes": "", "columns": ["a_b", "c"], "rows": [[1.5, "x"], [None, 2]]}  # fmt: skip
FILES = {
    "config.json": {"command": "train", "pair": "vae", "data": "digits", "estimator": "STL()", "seed": 0, "estimators": ["a", "b"]},
    "environment.json": {"date": "2026-01-31", "seconds": 1.5, "git": ""},
    "diagnosis.json": {"verdict": "Good.", "k_hat": 0.1},
    "results.json": RESULTS,
}  # fmt: skip
POISONS = [None, True, 3, -1e308, "x", "", [], {}, [[]], [None], {"x": [1]}, float("nan"), float("inf"), 10**400]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """As JSON has it, of one point and two rows."""
    content = json.loads(made().save(tmp_path_factory.mktemp("made") / "comparison.json").read_text())
    for row in content["rows"]:
        row["variances_without"] = row["variances_without"][:2]
    return content | {"points": content["points"][:1], "rows": content["rows"][:2]}


def folder_of(tmp_path, files):
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (run / name).write_text(json.dumps(content))
    (run / "report.html").touch()
    return run


def changed(value, poison):
    """It with the poison in place of each value in turn, and without each name."""
    if isinstance(value, dict):
        for name in value:
            yield {other: value[other] for other in value if other != name}
            for inner in changed(value[name], poison):
                yield {**value, name: inner}
    elif isinstance(value, list):
        for place in range(len(value)):
            for inner in changed(value[place], poison):
                yield [*value[:place], inner, *value[place + 1 :]]
    yield poison


def tried(run, name):
    """What comes of all pages."""
    index(run.parent)
    page(run.parent / "all.html", [run], title="All")
    try:
        vb.report(run)
    except BadInput as error:
        assert name in str(error) and "Wanted" in str(error) and "damaged" in str(error)
        return True
    return False


@pytest.mark.parametrize("poison", some_quick(POISONS, POISONS[::2]), ids=lambda poison: repr(poison)[:12])
@pytest.mark.parametrize("name", FILES)
def test_each_value_of_each_file(tmp_path, monkeypatch, name, poison):
    files = FILES if name == "results.json" else {other: FILES[other] for other in FILES if other != "results.json"}
    run = folder_of(tmp_path, files)
    monkeypatch.setattr("vbayes.runs.regular_file.os.fsync", lambda number: None)  # thousands of pages
    refused = 0
    for content in changed(files[name], poison):
        (run / name).write_text(json.dumps(content))
        refused += tried(run, name)
    assert refused or name == "environment.json"  # where any table will do


def test_each_value_of_a_comparison(tmp_path, comparison, monkeypatch):
    run = folder_of(tmp_path, {name: FILES[name] for name in ("config.json", "environment.json")} | {"comparison.json": comparison})  # fmt: skip
    monkeypatch.setattr("vbayes.runs.regular_file.os.fsync", lambda number: None)
    assert not tried(run, "comparison.json")
    for poison in (None, "x", {"x": [1]}, 10**400):
        for content in list(changed({k: v for k, v in comparison.items() if k != "rows"} | {"rows": comparison["rows"][:1]}, poison))[::6]:  # fmt: skip
            (run / "comparison.json").write_text(json.dumps(content))
            tried(run, "comparison.json")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[" * 100_000, b"\x00" * 50, b'{"a": 1', b'{"a": ' + b"1" * 5000 + b"}"]
)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_json(tmp_path, name, content):
    run = folder_of(tmp_path, FILES)
    (run / name).write_bytes(content)
    with pytest.raises(BadInput, match=f"{name} can't be read"):
        vb.report(run)
    index(run.parent)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"step,seconds\n1",
        b"\xff",
        b"step,elbo_per_datum,seconds\n1,x,1\n",
        b"a\n1\n",
        b"step,elbo_per_datum,seconds\n1\n",
    ],
)
def test_the_history(tmp_path, content):
    run = folder_of(tmp_path, {"config.json": FILES["config.json"]})
    (run / "history.csv").write_bytes(content)
    if content:
        with pytest.raises(BadInput, match="history.csv (is damaged|can't be read)"):
            vb.report(run)
    else:
        vb.report(run)


def test_infinite_and_unknown_numbers_of_a_comparison(tmp_path, comparison):
    """Are shown: an estimator may have an infinite variance, and no other beside it a finite one."""
    run = folder_of(tmp_path, {name: FILES[name] for name in ("config.json", "environment.json")})
    rows = [row | {"variance_time": "inf", "bias_z": "-inf", "variance": None} for row in comparison["rows"]]
    (run / "comparison.json").write_text(json.dumps(comparison | {"rows": rows}))
    text = vb.report(run).read_text("utf-8")
    assert "∞" in text and 'class="best"' not in text


@pytest.mark.parametrize("poison", [None, 3, "x", [], {"x": 1}], ids=str)
def test_a_comparison_from_a_damaged_file(tmp_path, comparison, poison):
    path = tmp_path / "comparison.json"
    for content in changed(comparison, poison):
        path.write_text(json.dumps(content))
        try:
            Comparison.load(path)
        except BadInput as error:
            assert "comparison.json is not a comparison" in str(error)


def test_the_index_says_what_is_whole(tmp_path):
    run = folder_of(tmp_path, FILES | {"environment.json": {"date": 3, "seconds": "long"}})
    told = {"name": "mine", "question": "Q?", "claim": "C.", "verdict": "V: 1.", "answer": "V", "picture": None, "date": "", "seconds": None}  # fmt: skip
    assert summary(run) == told


def test_a_damaged_run_is_measured_anew(tmp_path):
    from vbayes.runs.run import _kept

    experiment = vb.Experiment(
        "Q?", "C.", lambda: None, {}, {}, lambda t: None, lambda t: "", summary=lambda t: t[["a"]]
    )
    for name, content in {"table.csv": "b\n1\n", "results.json": '{"verdict": 3}', "environment.json": '{"seconds": "x"}'}.items():  # fmt: skip
        run = folder_of(tmp_path, {"results.json": RESULTS, "environment.json": {"seconds": 1.0}})
        pd.DataFrame({"a": [1]}).to_csv(run / "table.csv", index=False)
        assert _kept("mine", run, experiment).verdict == "V: 1."
        (run / name).write_text(content)
        assert _kept("mine", run, experiment) is None
