"""Models, pairs and functions named on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vbayes as vb
from vbayes.cli import keep
from vbayes.cli.code import imported, spelled
from vbayes.cli.commands import find
from vbayes.cli.predict import _row_labels
from vbayes.data.stored import Stored
from vbayes.errors import BadInput

MODEL = """
import pyro, pyro.distributions as dist

def {name}(postcode, claim=None):
    with pyro.plate("postcode", 3):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(postcode)):
        pyro.sample("claim", dist.Normal(a[postcode], 0.5), obs=claim)
"""
TABLE = "policy,postcode,claim\n" + "".join(
    f"{1000 + i},{('02116', '9999', '10115')[i % 3]},{i % 4}\n" for i in range(24)
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code_of_claims.py").write_text(MODEL.format(name="claims"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "more_code.py").write_text(MODEL.format(name="more"))
    (tmp_path / "claims.csv").write_text(TABLE)
    (tmp_path / "new.csv").write_text("policy,postcode\n7,02116\n8,9999\n")
    yield tmp_path
    for name in ("code_of_claims", "more_code"):
        sys.modules.pop(name, None)


def test_one_spelling():
    assert spelled("models.py:claims") == spelled("./models.py:claims") == "models:claims" == spelled("models:claims")
    assert spelled("path/./to/models.py:claims") == "path/to/models.py:claims"
    assert spelled("vae") == "vae" and spelled(None) is None


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["code_of_claims:claims", "code_of_claims.py:claims", "sub/more_code.py:more"])
def test_modules_and_files(name):
    assert imported(name).__name__ == name.rpartition(":")[2]
    assert "" not in sys.path[:1] and "sub" not in sys.path


CASES = {
    "nowhere.py:claims": "There is no file or folder nowhere.py.",
    "code_of_clams.py:claims": "There is no file or folder code_of_clams.py. Did you mean 'code_of_claims.py'",
    "code_of_clams:claims": "Can't import 'claims' from 'code_of_clams'.*Did you mean 'code_of_claims'",
    "code_of_claims:claim": "code_of_claims has no 'claim'. Did you mean 'claims'.*defined there: claims",
    "code_of_claims.py": "not said what to take from it.*Fix: code_of_claims.py:claims",
    "code_of_claims": "not said what to take from it.*Fix: code_of_claims:claims",
    "code_of_clams.py": "There is no file or folder code_of_clams.py. Did you mean 'code_of_claims.py'",
    "json.py:dumps": "another module is called 'json' too",
    spelled("json.py:dumps"): "another module is called 'json' too",
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_there_is_said(name, here):
    (here / "json.py").write_text("def dumps():\n    pass\n")
    with pytest.raises(BadInput, match=f"(?s){CASES[name]}.*"):
        find(name, "claims.csv")


def test_pairs_that_a_file_assigns_are_offered(here):
    (here / "more_code.py").write_text(
        "import vbayes as vb\nfrom code_of_claims import claims\npair = vb.Pair(claims)\n"
    )
    with pytest.raises(BadInput, match="more_code has no 'pairs'. Did you mean 'pair'.*defined there: pair"):
        find("more_code:pairs", "claims.csv")
    with pytest.raises(BadInput, match="Fix: more_code.py:pair"):
        find("more_code.py", "claims.csv")


def test_labels_of_rows_that_stay_in_a_large_file():
    stored = Stored(lambda start, out: np.copyto(out, np.arange(start, start + len(out))), (6,), torch.int64)
    found = _row_labels(Path("large.h5"), vb.Dataset({"policy": stored, "x": stored}), ("x",))
    assert found is not None and found.name == "policy" and found.tolist() == list(range(6))


@pytest.mark.usefixtures("here")
def test_integers_and_numbers_as_text_are_names_where_that_is_declared():
    with pytest.raises(
        vb.errors.BadInput, match="no column 'postcod', which is to be categorical. Did you mean 'postcode'"
    ):
        find("code_of_claims:claims", "claims.csv", categorical="postcod")
    with pytest.raises(vb.errors.BadInput, match="--categorical x for the data set 'nile', which is not a table"):
        find("hmm_summed", None, categorical="x")
    job = find("code_of_claims:claims", "claims.csv", categorical="postcode")
    assert job.data.labels["postcode"] == ("02116", "9999", "10115")  # as in the file, in the order of numbers
    assert job.data.tensors["postcode"][:3].tolist() == [0, 1, 2]
    assert job.changed["categorical"] == (None, "postcode")


def test_from_training_to_predictions(here, inside, monkeypatch):
    """By a path; the labels of rows and groups are there at the end."""
    monkeypatch.setattr(keep, "save_figure", lambda figure, path: path.touch())
    options = ("--data", "claims.csv", "--steps", 2, "--out", "run")
    done = inside("train", "./code_of_claims.py:claims", *options)
    assert done.returncode == 2 and "'postcode' has 3 different integers, up to 10115" in " ".join(
        done.stderr.replace("│", " ").split()
    )
    done = inside("train", "./code_of_claims.py:claims", "--categorical", "postcode", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads((here / "run" / "config.json").read_text())["pair"] == "code_of_claims:claims"
    assert "a[02116]" in done.stdout
    done = inside("predict", "run", "--pair", "code_of_claims.py:claims", "--data", "new.csv", "--draws", 5)
    assert done.returncode == 0, done.stderr
    assert " policy " in done.stdout
    lines = (here / "run" / "predictions.csv").read_text().splitlines()
    assert lines[0].startswith("policy,data,postcode,mean,sd")
    assert [line.split(",")[:3] for line in lines[1:]] == [["7", "0", "02116"], ["8", "1", "9999"]]
    missing = inside("predict", "rum", "--data", "new.csv")
    assert missing.returncode == 2 and "There is no file or folder rum. Did you mean 'run'" in missing.stderr
