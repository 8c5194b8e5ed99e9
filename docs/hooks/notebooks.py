"""The notebooks as pages, with what they print and draw. They are run once for each text, and kept in build/notebooks."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "notebooks"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"), key=lambda path: (path.stem[0].isdigit(), path.stem))


def on_config(config: MkDocsConfig, **_: Any) -> None:
    """All of them are the tutorials, those with a number, which belong together, after the others."""
    (tutorials,) = [part for part in config.nav if "Tutorials" in part]
    tutorials["Tutorials"] = [f"notebooks/{path.stem}.md" for path in NOTEBOOKS]


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """A page for each, and a file for each of its figures; without outputs where EXECUTE is false."""
    for path in NOTEBOOKS:
        notebook = executed(path) if config.extra["execute"] else nbformat.read(path, as_version=4)
        text, figures = page(notebook, path.stem)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, content in figures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def executed(path: Path) -> Any:
    """The notebook with its outputs."""
    kept = KEPT / f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.ipynb"
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(KEPT)}}).execute()
        nbformat.write(notebook, kept)
    return nbformat.read(kept, as_version=4)


def page(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """Markdown, and the figures that it shows by their file names."""
    parts, figures = [], dict[str, bytes]()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in together(cell.get("outputs", ())):
            data = output.get("data", {})
            if "image/png" in data:
                figure = f"{name}-{len(figures)}.png"
                figures[figure] = base64.b64decode(data["image/png"])
                parts.append(f"![What the code above draws]({figure})")
            elif "text/html" in data:
                parts.append(f'<div class="output" markdown="0">{unstyled(data["text/html"])}</div>')
            elif text := output.get("text") or data.get("text/plain"):
                parts.append(f"``` {{.text .output}}\n{text.rstrip()}\n```")
    first = parts[0] + f"\n\nThis page is the notebook `notebooks/{name}.ipynb`."
    return "\n\n".join([first, *parts[1:]]) + "\n", figures


def together(outputs: list[Any]) -> list[Any]:
    """What was printed in several pieces as one; without stderr, which has warnings of the machine that it was run on."""
    found: list[Any] = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if found and output.get("name") == found[-1].get("name") == "stdout":
            found[-1] = {**found[-1], "text": found[-1]["text"] + output["text"]}
        else:
            found.append(output)
    return found


def unstyled(table: str) -> str:
    """Without pandas' own style sheet, and without blank lines, at which Markdown would end it."""
    return re.sub(r"\n\s*\n", "\n", re.sub(r"<style.*?</style>", "", table, flags=re.S)).strip()
