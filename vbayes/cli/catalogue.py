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
"""Requirement of an estimator, or field that it needs → what it means for a pair, in words."""


def catalogue() -> Iterator[RenderableType]:
    """Lists pairs, estimators and data sets by name, with one or two lines for each at any width."""
    yield from _listed("Pairs", {name: (f"Data: {recipe.data}", recipe.summary) for name, recipe in PAIRS.items()})
    yield from _listed("Estimators", {name: estimator_in_words(kind) for name, kind in ESTIMATORS.items()})
    yield from _listed("Guides", {name: ("", _first_line(kind)) for name, kind in GUIDES.items()})
    yield from _listed("Data sets", {name: ("", _first_line(loader)) for name, loader in DATASETS.items()})
    yield ""
    yield Text(
        "`vbayes train PAIR --data DATA --estimator ESTIMATOR` takes these names; `vbayes train --help` has examples."
    )


def _listed(title: str, entries: Mapping[str, tuple[str, str]]) -> Iterator[RenderableType]:
    """Two columns: names, which are never truncated as they must be typed, and descriptions, which are wrapped."""
    yield ""
    yield Text(title, style="bold")
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, style="cyan", min_width=max(map(len, entries)))
    table.add_column(overflow="fold")
    for name, (aside, words) in entries.items():
        # As Text, because rich reads square brackets in strings as markup.
        table.add_row(name, Text.assemble(words, (f" {aside}" if aside else "", "dim")))
    yield table


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").split("\n")[0]


def estimator_in_words(kind: type[Estimator]) -> tuple[str, str]:
    """The reference of an estimator, and a description with its bound, what its gradient is unbiased for, and its requirements."""
    said = [
        f"{kind.bound}"
        if kind.unbiased_for == kind.bound
        else f"{kind.bound}, its gradient unbiased for {kind.unbiased_for}"
    ]
    said += [f"needs {needs(kind)}"] if needs(kind) != "nothing" else []
    said += [f"K ≥ {kind.min_particles}"] if kind.min_particles > 1 else []
    return kind.reference, f"{_first_line(kind)} Bound: {'; '.join(said)}."


def needs(kind: type[Estimator]) -> str:
    """The requirements of an estimator on a pair, in words."""
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
