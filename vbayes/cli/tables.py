"""Tables for the terminal: a comparison, and the outcomes of experiments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from ..summaries.tables import plain_table

if TYPE_CHECKING:
    from ..laboratory.comparison import Comparison
    from ..runs.run import Outcome


def comparison(result: Comparison) -> Table:
    """The rows of a comparison for the whole gradient, with the best at each point in bold."""
    table = plain_table(
        title=f"{escape(result.pair)} on {escape(result.data)}: noise of the whole gradient, {result.replicas} draws"
    )
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
                "  " + escape(row.estimator),
                f"{row.variance:.2e}",
                f"{row.variance_se / row.variance:.1%}" if row.variance else "–",
                f"{row.snr:.3g}",
                "–" if row.bias_z != row.bias_z else f"{row.bias_z:+.1f}",
                f"{row.ms_per_gradient:.2f}",
                f"{row.variance_time:.2e}",
                style="bold" if row.variance_time == here.variance_time.min() else "",
            )
    return table


def outcomes(found: Sequence[Outcome]) -> Table:
    """The outcome of each experiment, one line each."""
    shown = plain_table(title="")
    shown.expand = True  # so that the verdict is truncated, not the rest
    shown.add_column("experiment", no_wrap=True)
    shown.add_column("verdict", no_wrap=True, overflow="ellipsis", ratio=1)
    shown.add_column("s", justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    for outcome in found:
        seconds = "–" if outcome.seconds != outcome.seconds else f"{outcome.seconds:.1f}"
        words = escape(" ".join(outcome.verdict.split()))
        shown.add_row(outcome.name, words, seconds, outcome.state, style="red" if outcome.state == "failed" else "")
    return shown
