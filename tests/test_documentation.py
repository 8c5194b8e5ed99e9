"""The code of each page of the documentation runs, from top to bottom."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pyro
import pytest
import torch
from matplotlib import pyplot

import vbayes as vb

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
QUICK = {"index.md", "why.md"}
"""Pages whose code takes less than two seconds."""


def blocks(page: Path) -> list[str]:
    """The code of a page: what is marked `python`. What is marked `py` is only looked at: another package's, or a part of something."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def run(page: Path) -> dict:
    scope: dict = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page)):
        exec(compile(block, f"{page.name}, block {number}", "exec"), scope)
    return scope


def pytest_generate_tests(metafunc):
    """The pages that have code, and no test of their own name below."""
    if metafunc.function is test_the_code_of_a_page_runs:
        pages = [page for page in PAGES if blocks(page) and f"test_{page.stem}" not in globals()]
        slow = {page: [] if page.name in QUICK else [pytest.mark.slow] for page in pages}
        metafunc.parametrize("page", [pytest.param(page, id=page.name, marks=slow[page]) for page in pages])


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """What pages write is written there, and what they draw, or leave with Pyro as a script does, is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        yield tmp_path
    pyplot.close("all")
    pyro.clear_param_store()


@pytest.mark.on_cpu
def test_the_code_of_a_page_runs(page, elsewhere):
    run(page)


def test_every_page_is_in_the_navigation():
    """And nothing else, but what stands outside the folder: the changelog and its like."""
    named = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M))
    inside = {page.relative_to(DOCS).as_posix() for page in PAGES}
    assert not inside - named
    assert all((ROOT / page).exists() for page in named - inside)


@pytest.mark.slow
@pytest.mark.on_cpu
def test_gallery(elsewhere):
    """Each piece of code makes the figure below it."""
    spec = importlib.util.spec_from_file_location("draw", DOCS / "figures" / "draw.py")
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    drawn = {path.name for path in draw.draw(elsewhere)}
    assert drawn == {path.name for path in (DOCS / "figures").glob("*.png")}
    assert len(drawn) == len(blocks(DOCS / "gallery.md")) and all(
        (elsewhere / name).stat().st_size > 10_000 for name in drawn
    )


@pytest.mark.slow
def test_estimators(capsys):
    """And what its comments say is so."""
    scope = run(DOCS / "estimators.md")
    assert re.search(r"\n  not judged +three_bernoulli\n  value not judged +three_bernoulli", capsys.readouterr().out)
    assert scope["boast"].verdict().startswith("Biased in guide, where it claims not to be")
    table = scope["table"].set_index("num_particles")
    assert table.oracle.eq("tabulated").all() and table.bound.eq("KL(p ‖ q)").all()
    few, many = table.loc[2], table.loc[32]
    assert scope["learned"]["NVIL(rate=0.02)"] < 0.4 * scope["learned"]["score"]
    assert few.bias > 5 * few.bias_se and many.bias < 0.4 * few.bias + 3 * many.bias_se


@pytest.mark.slow
def test_laboratory(elsewhere):
    assert run(DOCS / "laboratory.md")["result"].verdict().count("Biased here: StickyIWAE (") == 1


@pytest.mark.slow
@pytest.mark.on_cpu
def test_several_devices(tmp_path):
    """Its script, by two processes and by one."""
    (script,) = blocks(DOCS / "several_devices.md")
    tail = "import os\nprint(f'found {fit.history.elbo.iloc[-1]:.2f} {fit.engine}\\n', end='', flush=True)\n"
    (tmp_path / "script.py").write_text(script.replace("seed=0", "seed=0, device='cpu', compile='torch'") + tail)
    here = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(DOCS.parent)}
    said = []
    for starts in (["-m", "torch.distributed.run", "--nproc-per-node=2"], []):
        ran = subprocess.run(
            [sys.executable, *starts, "script.py"], capture_output=True, text=True, cwd=tmp_path, env=os.environ | here
        )
        assert ran.returncode == 0, ran.stderr
        said += [line.split(maxsplit=2) for line in ran.stdout.splitlines() if line.startswith("found")]
    first, second, alone = (float(elbo) for _, elbo, _ in said)
    assert first == second == pytest.approx(alone, rel=1e-5)
    assert [engine.endswith("the mean of 2 processes'") for *_, engine in said] == [True, True, False]


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("*.md")], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.slow
def test_updates():
    scope = run(DOCS / "updates.md")
    assert scope["by_scores"].rows[-1][2] == pytest.approx(scope["by_gradient"].rows[-1][2], abs=0.01)


@pytest.mark.slow
def test_your_data(capsys, tmp_path, monkeypatch):
    """And what its comments say is so."""
    monkeypatch.chdir(tmp_path)
    scope = run(DOCS / "your_data.md")
    said = " ".join("".join(capsys.readouterr()).split())
    assert "Columns left out, as 'model' has no arguments with these names: id." in said
    assert "('Aitkin', 'Anoka', 'Becker') [2, 3]" in said and "in 12 of 60 rows (first: row 0)" in said
    first, second = (scope[name].parameters for name in ("masked", "without"))
    assert all(torch.allclose(value, second[name], atol=1e-5) for name, value in first.items())
    assert scope["data"].labels == {"county": ("Aitkin", "Anoka", "Becker")} and scope["large"].steps == 40
    assert (scope["seen"].steps, scope["seen"].batch_size) == (8, 16)


@pytest.mark.slow
def test_predictions(capsys):
    scope = run(DOCS / "predictions.md")
    pyplot.close("all")
    said = capsys.readouterr().out
    assert "1 new group of county, drawn from the population: Dakota" in said and "['Aitkin' 'Anoka'" in said
    table = scope["found"].to_dataframe()
    assert table.county.tolist() == ["Brown", "Dakota"] and table.sd[0] < table.sd[1]


@pytest.mark.slow
def test_callbacks(tmp_path, monkeypatch, capsys):
    """Its recipes do what they are for; TensorBoard and MLflow are stand-ins that write down what they are told."""
    told: list[tuple] = []

    class Writer:
        def __init__(self, folder):
            told.append(("writer", folder))

        def add_scalar(self, name, value, step):
            told.append((name, value, step))

        def add_histogram(self, name, values, step):
            told.append((name, values.shape, step))

        def close(self):
            told.append(("closed",))

    mlflow = types.SimpleNamespace(
        start_run=contextlib.nullcontext,
        log_params=lambda params: told.append(("params", params)),
        log_metric=lambda name, value, step: told.append(("metric", value, step)),
        log_artifact=lambda path: told.append(("artifact", path)),
    )
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.chdir(tmp_path)
    scope = run(DOCS / "callbacks.md")
    assert re.search(r"step \d+, epoch \d+: -\d+\.\d\d nats a datum", capsys.readouterr().out)
    stopping, stopped = scope["stopping"], scope["stopped"]
    assert stopped.interrupted and stopped.steps < 2000 and stopping.since == 5
    assert scope["best"].steps == stopped.steps - 5 * 20
    assert [each[2] for each in told if each[0] == "elbo_per_datum"] == list(range(1, 37))
    assert ("closed",) in told and any(len(each) == 3 and isinstance(each[1], torch.Size) for each in told)
    assert told[-1] == ("artifact", "vae.safetensors") and any(each[0] == "metric" for each in told)
    assert 1e-4 < scope["rate"] < 0.1
    kept = [vb.Fit.load(file, scope["pair"], scope["data"]) for file in sorted(tmp_path.glob("epoch-*"))]
    assert [fit.rows[-1][1] for fit in kept] == [10, 5]
