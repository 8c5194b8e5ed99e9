"""`vbayes predict` and `vbayes report`: commands that work on existing run folders."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.panel import Panel

from .code import spelled
from .parameters import Seed
from .screen import console

SHOWN = 10  # rows of a table that are shown
PREDICT = (
    "Examples:\n\n"
    "  vbayes predict runs/vae --data new.csv\n\n"
    "  vbayes predict runs/radon --pair my_models:radon --data new.parquet --out found.parquet --interval 0.8"
)
REPORT = (
    "Examples:\n\n"
    "  vbayes report runs/schools\n\n"
    "  vbayes report runs/vae-5 runs/vae-50    [dim]settings that differ, and results, side by side[/dim]"
)


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder written by [b]vbayes train[/b].")],
    data: Annotated[Path, typer.Option(help="Table with the new rows: CSV, Parquet, ...")],
    pair: Annotated[
        str | None,
        typer.Option(
            callback=spelled,
            help="package.module:name or file.py:name, if the pair of the fit is not built in. [dim]May be left out in a terminal, where you are asked.[/dim]",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(min=2, help="Number of draws from the posterior predictive distribution.")
    ] = 1000,
    interval: Annotated[float, typer.Option(help="Probability of the prediction intervals.")] = 0.9,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write the table, .csv or .parquet. [dim]Default: RUN/predictions.csv.[/dim]"),
    ] = None,
) -> None:
    """Predict new rows with a fit: write a table with means, standard deviations and intervals, and say how they were computed."""
    from ..summaries.tables import table
    from .predict import predict as run_

    found, made, target = run_(run, data, pair, draws=draws, interval=interval, seed=seed, out=out, may_run=_may_run)
    shown = made if found.index is None else made.reset_index(allow_duplicates=True)  # its labels are a column here
    console.print(table(shown.head(SHOWN), heading=str))
    if len(made) > SHOWN:
        console.print(f"… {len(made):,} rows in all")
    console.print(Panel(escape(found.verdict()), title="Verdict", title_align="left"))
    console.print(f"The table: [b]{escape(str(target))}[/b]", soft_wrap=True)


def _may_run(pair: str) -> bool:
    """Whether the user, at a terminal, agrees to run the code that a run folder names."""
    return sys.stdin.isatty() and typer.confirm(f"The pair of this fit is {pair!r}, which is Python code. Run it?")


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="One run folder, or several to compare.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Page that compares several runs. [dim]Default: A-against-B.html beside the first.[/dim]"),
    ] = None,
) -> None:
    """Write RUN/report.html again, as one self-contained page. Figures and draws that are missing, because of a full disk or a signal, are made too.

    For several runs, write a page with them side by side: settings that differ, verdicts, numbers, ELBO curves, figures.
    """
    write: Any
    if len(runs) > 1:
        from ..runs.against import against

        target = out or runs[0].parent / f"{'-against-'.join(run.name for run in runs)}.html"
        console.print(f"[b]{escape(str(against(runs, target)))}[/b]", soft_wrap=True)
        return
    if os.path.lexists(runs[0] / "unfinished.json"):
        from .train import report as write
    else:  # this needs no torch
        from ..runs.report import report as write

    console.print(f"[b]{escape(str(write(runs[0])))}[/b]", soft_wrap=True)
