"""What the terminal shows: rich tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from .comparison import Comparison
    from .runner import Outcome


def plain_table(*headings: str, title: str) -> Table:
    """A table without frames, which fits into 80 columns where one with frames would not."""
    return Table(*headings, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def comparison(result: Comparison) -> Table:
    """The whole gradient's rows of a comparison; the best of each point in bold."""
    table = plain_table(title=f"{result.pair} on {result.data}: noise of the whole gradient, {result.replicas} draws")
    table.add_column("estimator")
    for heading in ("variance", "± SE", "SNR", "bias z", "ms", "variance × ms"):
        table.add_column(heading, justify="right")
    rows = result.to_dataframe()
    rows = rows[rows.group == "all"] if (rows.group == "all").any() else rows
    for point in result.points:
        here = rows[rows["at"] == point.at]
        table.add_row(f"[b]{point.at}[/b] [dim]ELBO {point.elbo_per_datum:.1f}[/dim]", *[""] * 6)
        for row in here.itertuples():
            table.add_row(
                "  " + row.estimator,
                f"{row.variance:.2e}",
                f"{row.variance_se / row.variance:.1%}" if row.variance else "–",
                f"{row.snr:.3g}",
                "–" if row.bias_z != row.bias_z else f"{row.bias_z:+.1f}",
                f"{row.ms_per_gradient:.2f}",
                f"{row.variance_time:.2e}",
                style="bold" if row.variance_time == here.variance_time.min() else "",
            )
    return table


def table(frame: pd.DataFrame, sections: Sequence[str] = ()) -> Table:
    """Any data frame: words to the left, numbers with three digits to the right.

    Args:
        sections: Columns that head a section, instead of standing in each of its rows.
    """
    shown = plain_table(title="")
    columns = [name for name in frame if name not in sections]
    for name in columns:
        number = frame[name].dtype.kind in "fiu"
        shown.add_column(str(name).replace("_", " "), justify="right" if number else "left")
    before: tuple[object, ...] = ()
    for _, row in frame.iterrows():
        head = tuple(row[name] for name in sections)
        if head != before:
            shown.add_row(f"[b]{' · '.join(map(str, head))}[/b]")
            before = head
        cells = [row[name] for name in columns]
        shown.add_row(*("–" if v != v else _three_digits(v) if isinstance(v, float) else str(v) for v in cells))
    return shown


def outcomes(found: Sequence[Outcome]) -> Table:
    """What became of each experiment, a line each."""
    shown = plain_table(title="")
    shown.expand = True  # so that it is the verdict that gives way
    shown.add_column("experiment", no_wrap=True)
    shown.add_column("verdict", no_wrap=True, overflow="ellipsis", ratio=1)
    shown.add_column("s", justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    for outcome in found:
        seconds = "–" if outcome.seconds != outcome.seconds else f"{outcome.seconds:.1f}"
        words = escape(" ".join(outcome.verdict.split()))
        shown.add_row(outcome.name, words, seconds, outcome.state, style="red" if outcome.state == "failed" else "")
    return shown


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
