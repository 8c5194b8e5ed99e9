"""What there is to name on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

from rich.markup import escape
from rich.table import Table

from ..data import DATASETS
from ..drawing.latents import WORDS
from ..estimators import ESTIMATORS
from ..estimators.base import Estimator
from ..pairs import PAIRS
from ..summaries.tables import plain_table

ASKED = {
    "path": "a path at every site",
    "closed_form_kl": "a closed-form KL at every site",
    "sleep_log_q": "data that are an argument of the model",
    "enumerated": "finite discrete sites, broadcasting",
}
"""What asks something of a pair, among what an estimator requires and the fields that it needs."""


def catalogue() -> Iterator[Table]:
    """Pairs, estimators and data sets that have a name."""
    pairs = _names("pair", "data", "what", title="Pairs", of=PAIRS)
    for name, recipe in PAIRS.items():
        pairs.add_row(name, recipe.data, recipe.summary)
    yield pairs
    headings = "estimator", "bound", "unbiased for", "needs", "K ≥", "reference"
    estimators = _names(*headings, title="Estimators", of=ESTIMATORS)
    for name, kind in ESTIMATORS.items():
        cells = name, kind.bound, kind.unbiased_for, needs(kind), str(kind.min_particles), kind.reference
        estimators.add_row(*map(escape, cells))  # square brackets are rich's own
    yield estimators
    data = _names("data set", "what", title="Data sets", of=DATASETS)
    for name, loader in DATASETS.items():
        data.add_row(name, (inspect.getdoc(loader) or "").split("\n")[0])
    yield data


def _names(*headings: str, title: str, of: Iterable[str]) -> Table:
    """A table whose first column has names, which can't be typed where they are cut, and which cuts nothing else either."""
    made = plain_table(*headings, title=title)
    made.columns[0].min_width = max(map(len, of))
    for column in made.columns:
        column.overflow = "fold"
    return made


def needs(kind: type[Estimator]) -> str:
    """What an estimator asks of a pair, in words."""
    families = [word for family, word in WORDS.items() if family in kind.families]
    said = [f"independent {' or '.join(families)} sites"] if families else []
    said += [words for name, words in ASKED.items() if name in kind.requires | kind.needs]
    return "; ".join(said) or "nothing"


def estimators_in_markdown() -> str:
    """The table of the reference, from what the estimators say of themselves."""
    lines = [
        "| name | what it follows | bound | its gradient unbiased for | needs | K ≥ | reference |",
        "|" + "---|" * 7,
    ]
    for kind in ESTIMATORS.values():
        summary = (inspect.getdoc(kind) or "").split("\n")[0].removesuffix(".")
        cells = (
            f"`{kind.__name__}`",
            summary,
            kind.bound,
            kind.unbiased_for,
            needs(kind),
            str(kind.min_particles),
            kind.reference,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
