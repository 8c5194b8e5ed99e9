"""The command line. What takes long to import is imported where it is used: help comes at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from .. import home
from ..errors import VBayesError
from ..progress import Terminal, terminated
from .options import integers, settings
from .options import seeds as seeds_of
from .pages import EXAMPLES, page

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Variational Bayes on Pyro: train model/guide pairs, and measure which ELBO estimator serves them best.",
)
console = Terminal()

PairName = Annotated[str, typer.Argument(help="A built-in pair (see [b]vbayes list[/b]) or package.module:function.")]
Data = Annotated[
    str | None, typer.Option(help="A data set (see [b]vbayes list[/b]). [dim]Default: the pair's own.[/dim]")
]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Out = Annotated[Path | None, typer.Option(help="Run folder. [dim]Default: runs/COMMAND-PAIR-TIME.[/dim]")]
Epochs = Annotated[int | None, typer.Option(min=0, help="Passes over the data. [dim]Default: the pair's own.[/dim]")]
Length = Annotated[
    int | None, typer.Option(min=0, help="Passes over the data. [dim]Default: until it converges.[/dim]")
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Rows in a minibatch. [dim]Default: the pair's own.[/dim]")]
Rate = Annotated[float | None, typer.Option(help="Adam's step size. [dim]Default: the pair's own, or found.[/dim]")]


@app.command(
    epilog="Examples:\n\n"
    "  vbayes compare\n\n"
    "  vbayes compare eight_schools --replicas 5000\n\n"
    "  vbayes compare vae --data mnist --estimators pathwise,analytic_kl,stl --epochs 5\n\n"
    "  vbayes compare --estimators stl,dreg --particles 1,4,16 --trajectory\n\n"
    "  vbayes compare my_package.models:make_pair --data digits"
)
def compare(
    pair: PairName = "vae",
    data: Data = None,
    estimators: Annotated[
        str | None, typer.Option(help="Names, with commas. [dim]Default: all that suit.[/dim]")
    ] = None,
    replicas: Annotated[int, typer.Option(help="Gradients for each estimator and point.")] = 1000,
    particles: Annotated[
        str | None, typer.Option(help="Numbers of particles, with commas. [dim]Default: each estimator's own.[/dim]")
    ] = None,
    trajectory: Annotated[
        bool, typer.Option("--trajectory", help="At seven points of the training in place of three.")
    ] = False,
    oracle: Annotated[
        str, typer.Option(help="What judges bias: auto, tabulated, or an unbiased estimator's name.")
    ] = "auto",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = None,
) -> None:
    """Measure the gradient noise of ELBO estimators along a training run; say which is best for its cost."""
    from . import commands, tables

    names = None if estimators is None else [name.strip() for name in estimators.split(",") if name.strip()]
    options = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    counts = None if particles is None else integers("--particles", particles)
    how = {"replicas": replicas, "particles": counts, "at": "trajectory" if trajectory else None, "oracle": oracle}
    result, folder = commands.compare(
        pair, data, names, how, seed=seed, device=device, out=out, console=console, **options
    )
    console.print(tables.comparison(result))
    console.print(Panel(result.verdict(), title="Verdict", title_align="left"))
    _point_to(folder)


@app.command(
    epilog="Examples:\n\n  vbayes recommend\n\n  vbayes recommend vae --data mnist --batch-size 200 --budget 60"
)
def recommend(
    pair: PairName = "vae",
    data: Data = None,
    batch_size: BatchSize = None,
    budget: Annotated[float, typer.Option(help="Seconds, about.")] = 30.0,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Try estimators, numbers of particles and kinds of noise; say which gives the least noise for its time at the start of a training."""
    from ..summaries.tables import table
    from . import commands

    found = commands.recommend(pair, data, batch_size, budget=budget, seed=seed, device=device, console=console)
    columns = ["round", "estimator", "variance", "ms_per_gradient", "cost_ratio", "cost_ratio_se"]
    console.print(table(found.to_dataframe()[columns], sections=("round",)))
    console.print(Panel(found.verdict(), title="Verdict", title_align="left"))


@app.command(
    epilog="Examples:\n\n"
    "  vbayes train                      [dim]until it has converged[/dim]\n\n"
    "  vbayes train vae --data mnist --epochs 10 --binarize dynamic\n\n"
    "  vbayes train eight_schools --estimator stl --out runs/schools\n\n"
    "  vbayes train --resume runs/schools   [dim]one that was interrupted or killed; so does the same command again[/dim]"
)
def train(
    context: typer.Context,
    pair: PairName = "vae",
    data: Data = None,
    estimator: Annotated[str, typer.Option(help="Whose gradient to follow; auto asks the laboratory on the way.")] = "",
    epochs: Length = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Of the optimiser, in place of epochs.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Until then, at most. [dim]Default: 100 000.[/dim]")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="The same on the clock. [dim]Default: 600.[/dim]")] = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    binarize: Annotated[
        str | None,
        typer.Option(
            help="Make grey pictures 0 or 1: threshold, static or dynamic (drawn anew in each epoch). [dim]Default: as the data set is.[/dim]"
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = None,
    resume: Annotated[
        Path | None, typer.Option(help="A run folder, to go on with its training where it was interrupted or killed.")
    ] = None,
) -> None:
    """Fit a pair to data; keep its history, its posterior as netCDF, and a page to look at.

    The fit is kept while it runs: after a kill, SIGTERM or Ctrl-C the same command goes on, to the last bit.
    """
    from .train import train as run

    asked: dict[str, Any] = {"pair": pair, "data": data, "estimator": estimator or None, "seed": seed}
    asked |= {"steps": steps, "epochs": epochs, "max_steps": max_steps, "max_seconds": max_seconds}
    asked |= {"batch_size": batch_size, "learning_rate": learning_rate, "binarize": binarize}
    given = [name for name in asked if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    fit, folder = run(asked, given=given, device=device, out=out, resume=resume, console=console)
    if fit.steps:
        tail = fit.history.elbo_per_datum.tail(max(1, fit.steps // 10)).mean()
        console.print(f"ELBO per datum, mean of the last tenth of {fit.steps} steps: [b]{tail:.4f}[/b] nats")
    if fit.diagnosis:
        console.print(Panel(escape(fit.verdict()), title="Verdict", title_align="left"))
    _point_to(folder)


@app.command(
    epilog="Examples:\n\n"
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
    all_: Annotated[bool, typer.Option("--all", help="All in ./experiments but the slow ones.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="The quick settings.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, NAME=VALUE; lists with commas. Can be repeated.")
    ] = None,
    seed: Seed = 0,
    seeds: Annotated[
        str | None, typer.Option(help="A run with each of several: 0,1,7 for these, 5 for so many from --seed on.")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            help="A run with each of several values of a setting, NAME=A,B,C. Repeated: with all combinations."
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Measurements of a sweep at a time, in processes of this machine.")
    ] = 1,
    backend: Annotated[
        str, typer.Option(help="Where they are made: loky (this machine), dask:ADDRESS or ray.")
    ] = "loky",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder; the folder of run folders for several files. [dim]Default: runs/FILE..., runs.[/dim]"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Measure anew what is unchanged.")] = False,
) -> None:
    """Run experiments: table, figure, verdict and a page of each; for a folder, one page with all of them too.

    What is unchanged is not measured again: the same files, settings, seed and versions.
    A run in `runs` is replaced when they have changed, one under --out only with --force.

    A sweep has the same numbers whatever --jobs and --backend, but not the same times.
    An interrupted one goes on where it was.
    """
    from ..runs import run as runner
    from ..summaries.tables import table
    from . import tables

    asked = runner.Asked(
        quick=quick,
        given=settings("--set", set_),
        sweep=settings("--sweep", sweep),
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
            console.print("Unchanged: this is the kept run; --force measures anew.")
        assert outcome.table is not None and outcome.folder is not None
        console.print(table(outcome.table, outcome.sections))
        console.print(Panel(outcome.verdict, title="Verdict", title_align="left"))
        _point_to(outcome.folder)
        return
    outcomes = runner.run_each(found, asked, out=out, console=console, errors=Console(stderr=True))
    console.print(tables.outcomes(outcomes))
    folders = [path for path in files or [] if path.is_dir()]
    pages = [runner.course(folders[0], asked, outcomes, out=out)] if len(files or []) == len(folders) == 1 else []
    pages.append((out or runner.RUNS) / "index.html")
    console.print(f"Open [b]{'[/b] or [b]'.join(map(str, pages))}[/b].", soft_wrap=True)
    if failed := [outcome.name for outcome in outcomes if outcome.state == "failed"]:
        Console(stderr=True).print(f"Failed: {', '.join(failed)}.")
        raise typer.Exit(1)


@app.command(name="list")
def list_() -> None:
    """Show the pairs, the estimators with what they claim and need, and the data sets."""
    from .catalogue import catalogue

    for table in catalogue():
        console.print(table)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write RUN/report.html anew: one self-contained page. Figures and draws too, where a full disk or a signal has cost them."""
    write: Any
    if os.path.lexists(run / "unfinished.json"):
        from .train import report as write
    else:  # which needs no torch
        from ..runs.report import report as write

    console.print(f"[b]{write(run)}[/b]")


app.command(epilog=EXAMPLES)(page)


def _point_to(folder: Path) -> None:
    console.print(f"Open [b]{folder / 'report.html'}[/b]; figures, tables and draws lie beside it.", soft_wrap=True)


def main(args: list[str] | None = None) -> None:
    """Runs the command line; errors of ours become one screen and exit code 2, and SIGTERM status 143 once what was learned is kept."""
    alone = threading.current_thread() is threading.main_thread()  # only there do signals arrive
    before = signal.signal(signal.SIGTERM, terminated) if alone else None
    home.settle()
    try:
        outcome: Any = app(args, standalone_mode=True)
    except VBayesError as error:
        panel = Panel(str(error), title=type(error).__name__, title_align="left", border_style="red", highlight=False)
        Console(stderr=True).print(panel)
        sys.exit(2)
    finally:
        if alone:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    sys.exit(outcome)
