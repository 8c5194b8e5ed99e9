"""`vbayes run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from .options import seeds as seeds_of
from .options import settings as settings_of
from .parameters import Seed
from .screen import console, point_to

MOST_ROWS = 60  # rows of a table shown in the terminal

EXAMPLES = (
    "Examples:\n\n"
    "  vbayes run experiments/qmc.py --quick\n\n"
    "  vbayes run experiments/qmc.py --set particles=2,8 --seed 1 --out runs/mine\n\n"
    "  vbayes run --all --quick\n\n"
    "  vbayes run experiments/qmc.py --seeds 5 --sweep steps=1000,5000 --jobs 2\n\n"
    "  vbayes run experiments/qmc.py --seeds 0,1,2 --backend dask:tcp://192.168.0.1:8786"
)


def run(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...", help="Python files with a vb.Experiment named `experiment`, or folders of them."
        ),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Run all experiments in ./experiments except the slow ones.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Use the quick settings.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, NAME=VALUE; separate list items by commas. Can be repeated."),
    ] = None,
    seed: Seed = 0,
    seeds: Annotated[
        str | None,
        typer.Option(help="Repeat with several seeds: 0,1,7 for these seeds, 5 for five seeds starting at --seed."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            help="Repeat with several values of a setting, NAME=A,B,C. If given several times, all combinations are run."
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Number of measurements of a sweep to run in parallel, as local processes.")
    ] = 1,
    backend: Annotated[str, typer.Option(help="Where to run them: loky (this machine), dask:ADDRESS or ray.")] = "loky",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder, or for several files the folder of their run folders. [dim]Default: runs/FILE..., runs.[/dim]"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run again even if nothing has changed.")] = False,
) -> None:
    """Run experiments: table, figure, verdict and a page of each; for a folder, one page with all of them too.

    An experiment whose files, settings, seed and versions are unchanged is not run again.
    A run in `runs` is replaced when they have changed; one under --out only with --force.

    --jobs and --backend change the timings of a sweep, but no other numbers.
    An interrupted sweep continues where it stopped.
    """
    from ..runs import run as runner
    from ..summaries.tables import table
    from . import tables

    asked = runner.Asked(
        quick=quick,
        given=settings_of("--set", set_),
        sweep=settings_of("--sweep", sweep),
        seeds=seeds_of(seed, seeds),
        jobs=jobs,
        backend=backend,
        force=force,
    )
    found = runner.files(files or [], every=all_)
    if len(found) == 1:
        ((path, _),) = found.items()
        outcome = runner.run(path, asked, named=True, out=out, console=console)
        if outcome.state == "unchanged":
            console.print("Unchanged: showing the saved run; --force runs it again.")
        assert outcome.table is not None and outcome.folder is not None
        console.print(table(outcome.table.head(MOST_ROWS), outcome.sections))
        if (left := len(outcome.table) - MOST_ROWS) > 0:
            console.print(f"… and {left:,} more rows: {outcome.folder / 'table.csv'}", highlight=False)
        console.print(Panel(escape(outcome.verdict), title="Verdict", title_align="left"))
        point_to(outcome.folder)
        return
    outcomes = runner.run_each(found, asked, out=out, console=console, errors=Console(stderr=True))
    console.print(tables.outcomes(outcomes))
    folders = [path for path in files or [] if path.is_dir()]
    pages = [runner.course(folders[0], asked, outcomes, out=out)] if len(files or []) == len(folders) == 1 else []
    pages.append((out or runner.RUNS) / "index.html")
    console.print(f"Open [b]{'[/b] or [b]'.join(escape(str(page)) for page in pages)}[/b].", soft_wrap=True)
    if failed := [outcome.name for outcome in outcomes if outcome.state == "failed"]:
        Console(stderr=True).print(f"Failed: {', '.join(failed)}.")
        raise typer.Exit(1)
