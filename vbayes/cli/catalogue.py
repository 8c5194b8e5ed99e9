"""The names that the command line accepts."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ..data import DATASETS
from ..drawing.latents import WORDS
from ..estimators import ESTIMATORS
from ..estimators.base import Estimator
from ..guides import GUIDES
from ..pairs import PAIRS

ASKED = {
    "path": "a path at every site",
    "closed_form_kl": "a closed-form KL at every site",
    "sleep_log_q": "data that are an argument of the model",
    "enumerated": "finite discrete sites, broadcasting",
}
"""What asks something of a pair, among what an estimator requires and the fields that it needs."""


def catalogue() -> Iterator[RenderableType]:
    """Pairs, estimators and data sets that have a name: a line each or two, at any width."""
    yield from _listed("Pairs", {name: (f"Data: {recipe.data}", recipe.summary) for name, recipe in PAIRS.items()})
    yield from _listed("Estimators", {name: estimator_in_words(kind) for name, kind in ESTIMATORS.items()})
    yield from _listed("Guides", {name: ("", _first_line(kind)) for name, kind in GUIDES.items()})
    yield from _listed("Data sets", {name: ("", _first_line(loader)) for name, loader in DATASETS.items()})
    yield ""
    yield Text(
        "`vbayes train PAIR --data DATA --estimator ESTIMATOR` takes these names; `vbayes train --help` has examples."
    )


def _listed(title: str, entries: Mapping[str, tuple[str, str]]) -> Iterator[RenderableType]:
    """Names to the left, which are never cut, for what is cut can't be typed; words beside them, which are broken between words."""
    yield ""
    yield Text(title, style="bold")
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, style="cyan", min_width=max(map(len, entries)))
    table.add_column(overflow="fold")
    for name, (aside, words) in entries.items():
        # A Text, for square brackets in anything else are rich's own.
        table.add_row(name, Text.assemble(words, (f" {aside}" if aside else "", "dim")))
    yield table


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").split("\n")[0]


def estimator_in_words(kind: type[Estimator]) -> tuple[str, str]:
    """Aside where it comes from, and what it follows, asks for, and is unbiased for."""
    said = [
        f"{kind.bound}"
        if kind.unbiased_for == kind.bound
        else f"{kind.bound}, its gradient unbiased for {kind.unbiased_for}"
    ]
    said += [f"needs {needs(kind)}"] if needs(kind) != "nothing" else []
    said += [f"K ≥ {kind.min_particles}"] if kind.min_particles > 1 else []
    return kind.reference, f"{_first_line(kind)} Bound: {'; '.join(said)}."


def needs(kind: type[Estimator]) -> str:
    """What an estimator asks of a pair, in words."""
    families = [word for family, word in WORDS.items() if family in kind.families]
    said = [f"independent {' or '.join(families)} sites"] if families else []
    said += [words for name, words in ASKED.items() if name in kind.requires | kind.needs]
    return "; ".join(said) or "nothing"


def estimators_in_markdown() -> str:
    """The table of estimators in the reference, made from their own declarations."""
    lines = [
        "| name | gradient | bound | its gradient unbiased for | needs | K ≥ | reference |",
        "|" + "---|" * 7,
    ]
    for kind in ESTIMATORS.values():
        summary = _first_line(kind).removesuffix(".")
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
