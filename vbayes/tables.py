"""What the terminal shows: rich tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

if TYPE_CHECKING:
    from .comparison import Comparison


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
                f"{row.bias_z:+.1f}",
                f"{row.ms_per_gradient:.2f}",
                f"{row.variance_time:.2e}",
                style="bold" if row.variance_time == here.variance_time.min() else "",
            )
    return table
