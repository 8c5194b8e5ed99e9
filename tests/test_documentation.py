"""The code of each page of the documentation runs, from top to bottom."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot

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
def test_predictions(capsys):
    scope = run(DOCS / "predictions.md")
    pyplot.close("all")
    said = capsys.readouterr().out
    assert "1 new group of county, drawn from the population: Dakota" in said and "['Aitkin' 'Anoka'" in said
    table = scope["found"].to_dataframe()
    assert table.county.tolist() == ["Brown", "Dakota"] and table.sd[0] < table.sd[1]


@pytest.mark.slow
def test_your_data(capsys, tmp_path, monkeypatch):
    """And what its comments say is so."""
    monkeypatch.chdir(tmp_path)
    scope = run(DOCS / "your_data.md")
    said = " ".join("".join(capsys.readouterr()).split())
    assert "Left out, as 'model' has no arguments of these names: id." in said
    assert "('Aitkin', 'Anoka', 'Becker') [2, 3]" in said and "in 12 of 60 rows (first: row 0)" in said
    first, second = (scope[name].parameters for name in ("masked", "without"))
    assert all(torch.allclose(value, second[name], atol=1e-5) for name, value in first.items())
    assert scope["data"].labels == {"county": ("Aitkin", "Anoka", "Becker")} and scope["large"].steps == 40
    assert (scope["seen"].steps, scope["seen"].batch_size) == (8, 16)
