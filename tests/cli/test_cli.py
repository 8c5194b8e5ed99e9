"""The command line as a user meets it."""

from __future__ import annotations

import html
import json
import subprocess
import sys
import time
from importlib import metadata

import pandas as pd
import pytest
from rich.cells import cell_len

import vbayes as vb
from vbayes.cli.commands import find
from vbayes.cli.options import names
from vbayes.export import arviz as export
from vbayes.pair.missing import is_without_gaps
from vbayes.progress.lines import Lines

RUN = {
    "config.json",
    "environment.json",
    "history.csv",
    "posterior.nc",
    "fit.safetensors",
    "training.png",
    "report.html",
}
DIAGNOSED = {"diagnosis.json", "diagnosis.png"}
ESTIMATED = {"estimates.json"}


def vbayes(*args, cwd, **options):
    """In a process of its own."""
    command = [sys.executable, "-m", "vbayes", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, **options)


@pytest.mark.slow
def test_compare(inside, tmp_path):
    options = ["--estimators", "score,analytic_kl", "--replicas", 100, "--epochs", 2, "--out", "here/run"]
    done = vbayes("compare", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Verdict" in done.stdout and "score" in done.stdout and "report.html" in done.stdout
    folder = tmp_path / "here" / "run"
    assert {p.name for p in folder.iterdir()} == RUN | {"comparison.json", "comparison.png", "reconstructions.png"}
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["run"]
    result = vb.Comparison.load(folder / "comparison.json")
    assert result.pair == "vae" and result.data == "digits" and result.replicas == 100 and result.points[-1].step == 36
    config, environment = (json.loads((folder / name).read_text()) for name in ("config.json", "environment.json"))
    assert config["epochs"] == 2 and config["batch_size"] == 100 and config["oracle"] == result.oracle
    assert {"vbayes", "torch", "pyro-ppl", "python", "device", "git", "seed"} <= set(environment)
    assert len(pd.read_csv(folder / "history.csv")) == 36
    draws = export.from_netcdf(folder / "posterior.nc")
    assert draws["posterior"]["z"].dims[:3] == ("chain", "draw", "data")
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")

    (folder / "report.html").unlink()
    assert inside("report", folder).returncode == 0
    assert result.verdict() in html.unescape((folder / "report.html").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Heavy tails")  # blocks of two draws
def test_compare_in_several_numbers_of_particles(inside, tmp_path):
    options = ["--estimators", "stl,rloo", "--particles", "1,4", "--trajectory", "--oracle", "pathwise", "--epochs", 18]
    done = inside("compare", "normal_normal", "--replicas", 100, *options, "--out", "run")
    assert done.returncode == 0, done.stderr
    result = vb.Comparison.load(tmp_path / "run" / "comparison.json")
    assert result.estimators == ("stl", "stl(4)", "rloo(4)") and result.oracle == "pathwise, 1000 replicas"
    assert [p.step for p in result.points] == [0, 1, 2, 3, 6, 10, 18]
    wrong = inside("compare", "--particles", "1;4")
    assert wrong.returncode == 2 and "--particles '1;4'. Wanted: integers separated by commas" in wrong.stderr


@pytest.mark.slow
def test_recommend(inside):
    done = inside("recommend", "normal_normal", "--budget", 1)
    assert done.returncode == 0, done.stderr
    assert "Verdict" in done.stdout and "Use " in done.stdout and "cost ratio" in " ".join(done.stdout.split())


@pytest.mark.slow
def test_train_a_pair_of_ones_own(inside, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import vbayes as vb\ndef pair(features, output):\n    assert output == 'bernoulli'\n    return vb.pairs.vae(features, 8, 2)\n"
    )
    done = inside("train", "mine:pair", "--data", "digits", "--epochs", 1, "--estimator", "stl", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "run").iterdir()} == RUN | DIAGNOSED | {"reconstructions.png"}
    found = json.loads((tmp_path / "run" / "diagnosis.json").read_text())
    assert found["trust"] in ("good", "reweight", "bad") and found["draws"] >= 1000 and "Verdict" in done.stdout
    assert found["verdict"] in html.unescape((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert found["verdict"][:30] in done.stdout
    assert json.loads((tmp_path / "run" / "config.json").read_text())["estimator"] == "stl"
    assert "ELBO per datum" in done.stdout


def test_missing_values_are_masked_where_that_is_asked_for():
    """The pair that a fit is trained with is also the one that it is loaded with."""
    masked = find("eight_schools", None, missing="mask")
    assert is_without_gaps(masked.pair.model) and masked.changed["missing"] == (None, "mask")
    assert not is_without_gaps(find("eight_schools", None).pair.model)
    with pytest.raises(vb.errors.BadInput, match="missing='maks'"):
        find("eight_schools", None, missing="maks")


def test_default_folder_and_a_pair_without_pictures(inside, tmp_path):
    """With many particles, of which it tells what they do to the signal."""
    done = inside("train", "eight_schools", "--estimator", "iwae(64)", "--epochs", 20)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    config = json.loads((folder / "config.json").read_text())
    assert config["estimator"] == "iwae(64)" and config["guide"] == "the pair's own" and config["settings"] == {}
    assert config["changed"] == {"estimator": ["analytic_kl", "iwae(64)"], "epochs": ["until it has converged", 20]}
    told = json.loads((folder / "diagnosis.json").read_text())["verdict"]
    assert "With 64 particles the guide's gradient has a signal-to-noise ratio of" in told
    assert told.split() == done.stdout.replace("│", " ").split("╮")[1].split("╰")[0].split()
    assert folder.name.startswith("train-eight_schools-2")
    assert {p.name for p in folder.iterdir()} == RUN | DIAGNOSED | ESTIMATED


def test_train_until_it_has_converged(inside, tmp_path, monkeypatch):
    """And it moves meanwhile, as `vb.fit` does."""
    monkeypatch.setattr(Lines, "first", 0.0)
    done = inside("train", "normal_normal", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "Convergence: converged after" in done.stdout
    assert done.stderr.startswith("fit, learning rate: ")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["converged"] is True and config["epochs"] is None and config["convergence"].startswith("converged")
    done = inside("train", "normal_normal", "--max-steps", 50, "--out", "short")
    assert done.returncode == 0 and "max_steps used up" in " ".join(done.stdout.split()), done.stderr


def test_list(inside, monkeypatch):
    """At 80 columns nothing is eaten, cut or broken inside a word."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = inside("list").stdout.splitlines()
    words = " ".join(" ".join(lines).split())
    assert max(map(cell_len, lines)) <= 80
    for word in (
        *vb.ESTIMATORS,
        *vb.pairs.PAIRS,
        *vb.data.DATASETS,
        *vb.guides.GUIDES,
        "unbiased for E_q[ln p(x|z)] − β KL",
    ):
        assert word in words, word
    for kind in vb.ESTIMATORS.values():
        assert kind.reference in words, kind


def test_version(inside):
    assert inside("--version").stdout.startswith(f"vbayes {metadata.version('vbayes')}, torch 2")


def test_other_settings():
    job = find("vae", None, settings={"latent": "3", "hidden": "8"}, batch_size=50)
    assert job.settings == {"hidden": 8, "latent": 3, "output": "bernoulli", "seed": None}
    assert job.changed == {"latent": (5, 3), "hidden": (128, 8), "batch_size": (100, 50)}
    with job.pair.initialise(vb.Batch((job.data.first,))).scope():
        assert job.pair.parameters["encoder$$$location.weight"].shape == (3, 8)
    assert find("hmm_summed", None, settings={"states": "3"}).settings == {"states": 3}
    other = find("eight_schools", None, guide="point")
    assert (
        other.changed == {"guide": ("its own", "point")}
        and other.pair.word == "point"
        and other.pair.name == "eight_schools"
    )


@pytest.mark.parametrize("text", ["a,b(1, c=2),d", " a , b(1, c=2) ,d,"])
def test_commas_inside_brackets_part_no_names(text):
    assert names(text) == ["a", "b(1, c=2)", "d"]


HELP = """
import runpy, sys
for command in ((), ("compare",), ("train",), ("run",), ("report",), ("list",), ("recommend",), ("predict",)):
    sys.argv = ["vbayes", *command, "--help"]
    try:
        runpy.run_module("vbayes", run_name="__main__")
    except SystemExit as end:
        assert end.code == 0, command
slow = {"torch", "pyro", "numpy", "scipy", "pandas", "xarray", "arviz", "matplotlib", "sklearn", "joblib", "requests"}
sys.exit(f"was imported for it: {slow & set(sys.modules)}" if slow & set(sys.modules) else 0)
"""


def test_help_comes_at_once(tmp_path):
    """What takes long is importing: 0.3 s without these, 3 s with them."""
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage") == 8 and done.stdout.count("Examples") == 8


BAD = {
    "unknown pair": (["compare", "vea"], "Did you mean 'vae'"),
    "unknown estimator": (["compare", "--estimators", "slt"], "Did you mean 'stl'"),
    "unknown data": (["train", "--data", "digit"], "Did you mean 'digits'"),
    "unknown setting": (["train", "--set", "latnt=3"], "Did you mean 'latent'? Its settings: hidden=128, latent=5"),
    "setting of another kind": (
        ["train", "--set", "latent=ten"],
        "latent='ten' has the wrong type. Wanted: an integer",
    ),
    "setting of the data": (["train", "--set", "features=3"], "it comes from the data"),
    "no settings": (["train", "eight_schools", "--set", "a=3"], "It has none"),
    "setting of an estimator": (["train", "--estimator", "iwae(k=3)"], "Its settings: num_particles=5, noise='iid'"),
    "unknown guide": (["train", "--guide", "ful"], "Did you mean 'full'"),
    "brackets": (["train", "--set", "[i]latent=3"], "has no setting '[i]latent'"),
    "unknown option": (["compare", "--replica", "5"], "--replicas"),
    "batch too large": (["train", "--batch-size", "5000"], "batch_size=5000"),
    "minibatches of local latents": (["train", "eight_schools", "--batch-size", "4"], "rows of one minibatch only"),
    "no path": (["train", "monte_carlo", "--estimator", "stl"], "'z'"),
    "no such module": (["train", "nowhere:pair"], "package.module:name, or path/to/file.py:name"),
    "no run": (["report", "nowhere"], "There is no file or folder nowhere"),
    "folder in use": (["train", "--out", "full"], "is not an empty folder"),
    "folder that can't be": (["train", "--out", "file/run"], "Choose another --out"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_are_one_screen_and_code_2(case, inside, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").touch()
    (tmp_path / "file").touch()
    args, words = BAD[case]
    done = inside(*args)
    shown = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in shown and "Traceback" not in done.stderr and len(done.stderr.splitlines()) < 24
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "full", "thing"]  # nothing half-written


def test_not_finite_keeps_what_there_is(inside, tmp_path):
    (tmp_path / "diverging.py").write_text(
        "import torch, pyro, pyro.distributions as dist, vbayes as vb\n"
        "def model(x):\n"
        "    w = pyro.param('w', lambda: torch.tensor(20.0))\n"
        "    with pyro.plate('data', len(x)):\n"
        "        z = pyro.sample('z', dist.Normal(x.new_zeros(()), 1.0))\n"
        "        pyro.sample('x', dist.Normal(z, torch.sqrt(w)), obs=x)\n"
        "def guide(x):\n"
        "    with pyro.plate('data', len(x)):\n"
        "        pyro.sample('z', dist.Normal(x.new_zeros(()), 1.0))\n"
        "pair = vb.Pair(model, guide)\n"
    )
    done = inside(
        "train",
        "diverging:pair",
        "--data",
        "normal_normal",
        "--epochs",
        50,
        "--learning-rate",
        30,
        "--out",
        "run",
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    shown = " ".join(done.stderr.replace("│", " ").split())
    assert "site 'x' has a log-density" in shown and "Saved in run" in shown
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert f"at step {len(history) + 1};" in shown and history.elbo.notna().all()


@pytest.mark.slow
def test_the_readmes_comparison_in_time(tmp_path):
    """Three minutes on two cores; score far above pathwise above analytic KL; STL's lead over pathwise grows."""
    start = time.perf_counter()
    done = vbayes("compare", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0 and time.perf_counter() - start < 180
    table = vb.Comparison.load(tmp_path / "run" / "comparison.json").to_dataframe()
    leads = []
    for at in ("start", "middle", "end"):
        rows = table[(table["at"] == at) & (table.group == "all")].set_index("estimator")
        assert rows.variance["score"] > 100 * rows.variance["pathwise"]
        gap = rows.variance["pathwise"] - rows.variance["analytic_kl"]
        assert gap > 4 * (rows.variance_se["pathwise"] ** 2 + rows.variance_se["analytic_kl"] ** 2) ** 0.5
        leads.append(rows.variance["pathwise"] / rows.variance["stl"])
    assert leads[0] < leads[1] < leads[2] and leads[2] > 4
    assert table.bias_z.abs().max() < 4.5


MODEL = """
import pyro, pyro.distributions as dist
def slope(x, y):
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(b * x, 1.0), obs=y)
"""


def test_a_model_alone_is_a_pair_whose_guide_comes_by_itself(inside, tmp_path):
    """As with `vb.fit(model, data)`; what the guide has become is said on the way, and on the page."""
    (tmp_path / "alone.py").write_text(MODEL)
    (tmp_path / "my.csv").write_text("x,y\n1.0,0.5\n2.0,1.5\n-1.0,0.0\n")
    done = inside("train", "alone:slope", "--data", "my.csv", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "Guide: full-rank normal" in done.stdout and "Guide: full-rank normal." in " ".join(done.stdout.split())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["guide"] == "full-rank normal" and config["bound"] == "ELBO"
    assert "guide: full-rank normal" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    other = inside("train", "alone:slope", "--data", "my.csv", "--guide", "diagonal", "--out", "other")
    assert other.returncode == 0 and "Guide: mean-field normal" in other.stdout


def test_a_function_that_makes_a_pair_may_draw():
    import pyro
    import pyro.distributions as dist

    from vbayes.cli.commands import _is_model

    def model(x):
        pyro.sample("z", dist.Normal(0.0, 1.0))

    def make_pair():
        return vb.Pair(model, start=dist.Normal(0.0, 1.0).sample())

    def some_rows(table):
        return table.sample(3)

    assert _is_model(model) and not _is_model(make_pair) and not _is_model(some_rows)
