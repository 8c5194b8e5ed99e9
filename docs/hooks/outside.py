"""Files of the repository that pages link to although they lie outside docs/: one link is right both on the site and in a browser of the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
TAKEN = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "experiments/README.md", "experiments/course/README.md", "experiments/*/*.png")  # fmt: skip


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """They stand on the site under their own paths."""
    for path in sorted(path for pattern in TAKEN for path in ROOT.glob(pattern)):
        place = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """On the site `docs` and what lies beside it are one folder, and notebooks are pages."""
    markdown = re.sub(r"\]\(([^):]+)\.ipynb\)", r"](\1.md)", markdown)
    if (ROOT / "docs" / page.file.src_uri).exists():  # a link that leaves docs has one ../ too many
        out = "../" * (page.file.src_uri.count("/") + 1)
        return markdown.replace(f"]({out}", f"]({out[3:]}")
    return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
