"""Every notebook runs from top to bottom."""

from __future__ import annotations

from pathlib import Path

import pytest

QUICK = {
    '"epochs": 60': '"epochs": 2',
    "(1, 10, 100, 1000)": "(1, 10)",
    "num_particles=100,": "num_particles=3,",
    "draws=100": "draws=5",
    "draws=2000": "draws=200",
    "replicas=500": "replicas=100",
    "replicas=2000": "replicas=100",
}
"""What takes long → the same for little."""
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("quick", [True, False], ids=["quick", "full"])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of the Jupyter machinery, not of ours
def test_it_runs(path, quick, tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # figures are to appear in the notebook
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    for cell in notebook.cells:
        for long, short in QUICK.items() if quick else ():
            cell.source = cell.source.replace(long, short)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    nbformat.write(notebook, tmp_path / path.name)
