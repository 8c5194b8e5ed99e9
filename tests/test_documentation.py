"""The code of each page of the documentation runs, from top to bottom."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

import vbayes as vb

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def run(page: Path) -> dict:
    scope: dict = {}
    for number, block in enumerate(blocks(page)):
        exec(compile(block, f"{page.name}, block {number}", "exec"), scope)
    return scope


@pytest.mark.slow
def test_from_a_paper_to_an_estimator(capsys):
    """And what its comments say is so."""
    scope = run(DOCS / "estimators.md")
    assert "not judged  three_bernoulli" in capsys.readouterr().out
    assert scope["boast"].verdict().startswith("Biased in guide, where it claims not to be")
    table = scope["table"].set_index("num_particles")
    assert table.oracle.eq("tabulated").all() and table.bound.eq("KL(p ‖ q)").all()
    few, many = table.loc[2], table.loc[32]
    assert scope["learned"]["NVIL(rate=0.02)"] < 0.4 * scope["learned"]["score"]
    assert few.bias > 5 * few.bias_se and many.bias < 0.4 * few.bias + 3 * many.bias_se


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.slow
def test_updates():
    scope = run(DOCS / "updates.md")
    assert scope["by_scores"].rows[-1][2] == pytest.approx(scope["by_gradient"].rows[-1][2], abs=0.01)


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
