"""The code of each page of the documentation runs, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link
