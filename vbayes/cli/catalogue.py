"""What there is to name on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

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
    pairs = plain_table("pair", "data", "what", title="Pairs")
    pairs.columns[0].min_width = max(map(len, PAIRS))  # a name that is cut can't be typed
    for name, recipe in PAIRS.items():
        pairs.add_row(name, recipe.data, recipe.summary)
    yield pairs
    estimators = plain_table("estimator", "bound", "unbiased for", "needs", "K ≥", "reference", title="Estimators")
    for name, kind in ESTIMATORS.items():
        estimators.add_row(name, kind.bound, kind.unbiased_for, needs(kind), str(kind.min_particles), kind.reference)
    yield estimators
    data = plain_table("data set", "what", title="Data sets")
    for name, loader in DATASETS.items():
        data.add_row(name, (inspect.getdoc(loader) or "").split("\n")[0])
    yield data


def needs(kind: type[Estimator]) -> str:
    """What an estimator asks of a pair, in words."""
    families = [word for family, word in WORDS.items() if family in kind.families]
    said = [f"independent {' or '.join(families)} sites"] if families else []
    said += [words for name, words in ASKED.items() if name in kind.requires | kind.needs]
    return "; ".join(said) or "nothing"


def estimators_in_markdown() -> str:
    """The table of the README, from what the estimators say of themselves."""
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
