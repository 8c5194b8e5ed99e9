"""Every notebook runs from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of the Jupyter machinery, not of ours
def test_it_runs(path, tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # figures are to appear in the notebook
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    nbformat.write(notebook, tmp_path / path.name)


def text(path: Path) -> str:
    import nbformat

    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem[0].isdigit()], ids=lambda path: path.stem)
def test_a_session_asks_before_it_shows(path):
    """Each has questions with a place to write, something to break, solutions folded away, sources; and names its neighbours, which are there."""
    words = text(path)
    assert words.count("**Predict.**") + words.count("**Predict:**") >= 3 and words.count("*Your guess:* …") >= 3
    assert "### Break it" in words and "Sources:" in words and "You will be able to" in words
    assert (
        words.count("<details><summary>A solution</summary>") == words.count("</details>") == words.count("**Exercise")
    )
    for other in re.findall(r"\]\((\w+\.ipynb)\)", words):
        assert (path.parent / other).exists(), other
