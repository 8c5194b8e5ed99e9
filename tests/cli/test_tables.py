"""From a table in a file to a table of predictions, on the command line."""

from __future__ import annotations

import io
import json
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch

import vbayes as vb
from vbayes.cli.commands import find

MODEL = """
import pyro, pyro.distributions as dist, vbayes as vb

def model(county, floor, y=None):
    slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
    with pyro.plate("counties", 3):
        level = pyro.sample("level", dist.Normal(1.0, 1.0))
    with pyro.plate("data", len(county)):
        pyro.sample("y", dist.Normal(level[county] + slope * floor, 0.1), obs=y)

pair = vb.Pair(model)
"""
LEVELS = {"Aitkin": 0.0, "Anoka": 1.0, "Becker": 2.0}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "mine_with_a_table.py").write_text(MODEL)
    draws, names = np.random.default_rng(0), [*LEVELS] * 12
    floor = draws.integers(0, 2, 36).astype(float)
    y = np.array([LEVELS[name] for name in names]) - 0.5 * floor + 0.1 * draws.normal(size=36)
    table = pd.DataFrame({"id": range(36), "county": names, "floor": floor, "y": y})
    table.to_csv(tmp_path / "radon.csv", index=False)
    pd.DataFrame({"county": ["Becker", "Aitkin", "Dakota"], "floor": [1.0, 0.0, 0.0]}).to_csv(
        tmp_path / "new.csv", index=False
    )


def words(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.mark.filterwarnings("ignore::FutureWarning")  # ArviZ 0.23 says at its import that 1.x will come
def test_from_a_csv_to_a_prediction(inside, files, tmp_path, monkeypatch):
    """The day of `tests/test_practitioner.py`, at a terminal."""
    import arviz as az

    done = inside("train", "mine_with_a_table:pair", "--data", "radon.csv", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "on radon of 36 rows" in done.stdout and "Convergence: " in done.stdout and "Verdict" in done.stdout
    summary = az.summary(az.from_netcdf(tmp_path / "run" / "posterior.nc"), kind="stats")
    for name, truth in LEVELS.items():
        assert abs(summary.loc[f"level[{name}]", "mean"] - truth) < 0.15
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"] == "radon" and config["file"] == "radon.csv"

    refused = inside("predict", "run", "--data", "new.csv")
    assert refused.returncode == 2 and "Fix: add --pair mine_with_a_table:pair" in words(refused.stderr)
    other = inside("predict", "run", "--data", "new.csv", "--pair", "other:pair")
    assert other.returncode == 2 and "Wanted: --pair mine_with_a_table:pair" in words(other.stderr)

    pair = ("--pair", "mine_with_a_table:pair")
    done = inside("predict", "run", "--data", "new.csv", *pair, "--interval", 0.5, "--draws", 2000)
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "run" / "predictions.csv").set_index("county")
    assert found.columns.tolist() == ["data", "floor", "mean", "sd", "25%", "75%"]
    # The posterior is all but the true values: 12 rows of sd .1 a county, so each mean is right to some .03.
    assert abs(found["mean"]["Becker"] - 1.5) < 0.15 and abs(found["mean"]["Aitkin"]) < 0.15
    assert found["sd"]["Dakota"] > 5 * found["sd"]["Becker"], "nobody has met this one"
    assert "1 new group of county" in words(done.stdout)
    (tmp_path / "run" / "report.html").unlink()
    assert inside("report", "run").returncode == 0
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "predictions.png" in page and "1 new group of county" in page

    if find_spec("pyarrow"):  # of the extra `tables`
        assert inside("predict", "run", "--data", "new.csv", *pair, "--out", "found.parquet").returncode == 0
        assert len(pd.read_parquet(tmp_path / "found.parquet")) == 3
    refused = inside("predict", "run", "--data", "new.csv", *pair, "--out", "found.txt")
    assert refused.returncode == 2 and "ends in .csv or .parquet" in words(refused.stderr)
    refused = inside("predict", "run", "--data", "new.csv", *pair, "--out", "nowhere/found.csv")
    assert refused.returncode == 2 and "The folder nowhere" in words(refused.stderr)
    with monkeypatch.context() as without:
        without.setattr("vbayes.cli.predict.find_spec", lambda name: None)
        refused = inside("predict", "run", "--data", "new.csv", *pair, "--out", "found.parquet")
    assert refused.returncode == 2 and "pip install 'vbayes[tables]', or --out found.csv" in words(refused.stderr)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for answer, code in (("n\n", 2), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        done = inside("predict", "run", "--data", "new.csv", "--draws", 20)
        assert done.returncode == code, done.stderr
        assert "The pair of this fit is 'mine_with_a_table:pair', which is Python code. Run it?" in done.stdout

    table = pd.read_csv(tmp_path / "radon.csv")
    table[table.county != "Aitkin"].to_csv(tmp_path / "radon.csv", index=False)
    refused = inside("predict", "run", "--data", "new.csv", *pair)
    assert refused.returncode == 2 and "radon.csv has changed since the fit of run" in words(refused.stderr)


def test_what_is_no_fit_or_no_table(inside, files):
    for args, message in {
        ("predict", "nowhere", "--data", "new.csv"): "There is no file or folder nowhere.",
        ("train", "vae", "--data", "lost.csv"): "There is no file or folder lost.csv.",
        ("train", "vae", "--data", "mine_with_a_table.py"): "ends in '.py'",
    }.items():
        done = inside(*args)
        assert done.returncode == 2 and message in words(done.stderr), done.stderr


def test_columns_of_numbers_are_the_features_of_an_autoencoder(tmp_path):
    """And their values say what the decoder is to make; names are no feature."""
    table = pd.DataFrame({"a": [0.0, 1.0, 1.0], "kind": ["x", "y", "x"], "b": [1, 0, 1]})
    for scale, support, output in ((1.0, "binary", "bernoulli"), (0.5, "unit", "gaussian"), (2.0, "real", "gaussian")):
        table.assign(a=scale * table.a).to_csv(tmp_path / "some.csv", index=False)
        job = find("vae", str(tmp_path / "some.csv"), settings={"latent": "1"})
        assert job.data.first.shape == (3, 2) and job.data.support == support and job.settings["output"] == output
        assert vb.check(job.pair, job.data) is not None


def test_features_go_by_their_names(tmp_path):
    table = pd.DataFrame({"a": [0.1, 0.2, 0.3], "b": [0.5, 0.6, 0.7]})
    table.to_csv(tmp_path / "some.csv", index=False)
    job = find("vae", str(tmp_path / "some.csv"), settings={"latent": "1"})
    assert job.features == ("a", "b")
    other = vb.Dataset.of(table[["b", "a"]].assign(id=range(3)))
    assert torch.equal(job.recipe.fed(other, job.features).first, job.data.first)
    for wrong in (table[["a"]], table.assign(b=list("xyz"))):
        with pytest.raises(vb.errors.BadData, match="has no numeric column 'b'. Wanted: a, b"):
            job.recipe.fed(vb.Dataset.of(wrong), job.features)


@pytest.mark.parametrize(("pair", "column"), [("vae", "x"), ("eight_schools", "y")])
def test_names_are_no_numbers_to_a_built_in_pair(pair, column, tmp_path):
    pd.DataFrame({column: list("abc"), "sigma": [1.0, 1.0, 1.0]}).to_csv(tmp_path / "some.csv", index=False)
    with pytest.raises(
        vb.errors.BadData,
        match=f"Column '{column}' of 'some' holds names, such as 'a', but pair '{pair}' takes numbers",
    ):
        find(pair, str(tmp_path / "some.csv"))
