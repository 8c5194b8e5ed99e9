"""The command line. Slow imports are made where they are used, so that help appears at once."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from .. import home
from ..errors import VBayesError
from ..progress import terminated
from .afterwards import PREDICT, REPORT, predict, report
from .experiments import EXAMPLES, MOST_ROWS, run
from .options import integers, names
from .options import settings as settings_of
from .pages import EXAMPLES as OF_PAGES
from .pages import page
from .parameters import BatchSize, Categorical, Data, Device, Epochs, Guide, Length, Out, PairName, Rate, Seed, Settings
from .screen import console, point_to

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        console.print(
            f"vbayes {metadata.version('vbayes')}, torch {metadata.version('torch')}, pyro {metadata.version('pyro-ppl')}",
            highlight=False,
        )
        raise typer.Exit


@app.callback(
    epilog="Examples:\n\n"
    "  vbayes train\n\n"
    "  vbayes train vae --set latent=10 --estimator 'iwae(64)'\n\n"
    "  vbayes compare vae --data mnist\n\n"
    "  vbayes run experiments/qmc.py --quick\n\n"
    "  vbayes COMMAND --help    [dim]all options of a command, with examples[/dim]"
)
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the versions and exit.")
    ] = False,
) -> None:
    """Variational Bayes on Pyro: train model/guide pairs, and measure which ELBO estimator works best for them."""


@app.command(
    epilog="Examples:\n\n"
    "  vbayes compare\n\n"
    "  vbayes compare eight_schools --replicas 5000\n\n"
    "  vbayes compare vae --data mnist --estimators pathwise,analytic_kl,stl --epochs 5\n\n"
    "  vbayes compare vae --set latent=50 --estimators 'analytic_kl,iwae(16),dreg(16)'\n\n"
    "  vbayes compare --estimators stl,dreg --particles 1,4,16 --trajectory\n\n"
    "  vbayes compare my_package.models:make_pair --data digits"
)
def compare(
    pair: PairName = "vae",
    data: Data = None,
    categorical: Categorical = None,
    estimators: Annotated[
        str | None, typer.Option(help="Names, separated by commas. [dim]Default: all that suit the pair.[/dim]")
    ] = None,
    replicas: Annotated[int, typer.Option(help="Number of gradients for each estimator and point.")] = 1000,
    particles: Annotated[
        str | None,
        typer.Option(help="Numbers of particles, separated by commas. [dim]Default: each estimator's own.[/dim]"),
    ] = None,
    settings: Settings = None,
    guide: Guide = None,
    trajectory: Annotated[
        bool, typer.Option("--trajectory", help="Measure at seven points of the training instead of three.")
    ] = False,
    oracle: Annotated[
        str, typer.Option(help="Reference for the bias: auto, tabulated, or the name of an unbiased estimator.")
    ] = "auto",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = None,
) -> None:
    """Measure the gradient noise of ELBO estimators along a training run, and say which is best for its cost."""
    from . import commands, tables

    options: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "guide": guide,
        "categorical": categorical,
    }
    options["settings"] = settings_of("--set", settings) or None
    counts = None if particles is None else integers("--particles", particles)
    how = {"replicas": replicas, "particles": counts, "at": "trajectory" if trajectory else None, "oracle": oracle}
    result, folder = commands.compare(
        pair,
        data,
        None if estimators is None else names(estimators),
        how,
        seed=seed,
        device=device,
        out=out,
        console=console,
        **options,
    )
    console.print(tables.comparison(result))
    console.print(Panel(escape(result.verdict()), title="Verdict", title_align="left"))
    point_to(folder)


@app.command(
    epilog="Examples:\n\n  vbayes recommend\n\n  vbayes recommend vae --set latent=20\n\n  vbayes recommend vae --data mnist --batch-size 200 --budget 60"
)
def recommend(
    pair: PairName = "vae",
    data: Data = None,
    categorical: Categorical = None,
    settings: Settings = None,
    guide: Guide = None,
    batch_size: BatchSize = None,
    budget: Annotated[float, typer.Option(help="Approximate time to spend, in seconds.")] = 30.0,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Try estimators, numbers of particles and kinds of noise; say which gives the least gradient noise for its time at the start of training."""
    from ..summaries.tables import table
    from . import commands

    options = {"batch_size": batch_size, "guide": guide, "settings": settings_of("--set", settings)}
    options["categorical"] = categorical
    found = commands.recommend(pair, data, budget=budget, seed=seed, device=device, console=console, **options)
    columns = ["round", "estimator", "variance", "ms_per_gradient", "cost_ratio", "cost_ratio_se"]
    console.print(table(found.to_dataframe()[columns], sections=("round",)))
    console.print(Panel(escape(found.verdict()), title="Verdict", title_align="left"))


@app.command(
    epilog="Examples:\n\n"
    "  vbayes train                      [dim]until it has converged[/dim]\n\n"
    "  vbayes train vae --data mnist --epochs 10 --binarize dynamic\n\n"
    "  vbayes train my_models:radon --data radon.csv --out runs/radon\n\n"
    "  vbayes train models.py:claims --data claims.csv --categorical postcode\n\n"
    "  vbayes train vae --set latent=10 --set hidden=200\n\n"
    "  vbayes train vae --estimator 'iwae(64)'        [dim]64 particles[/dim]\n\n"
    "  vbayes train vae --estimator 'beta(beta=2)'    [dim]a β-VAE[/dim]\n\n"
    "  vbayes train eight_schools --guide full\n\n"
    "  vbayes train eight_schools --estimator stl --out runs/schools\n\n"
    "  vbayes train --resume runs/schools   [dim]continue an interrupted or killed run; so does repeating its command[/dim]"
)
def train(
    context: typer.Context,
    pair: PairName = "vae",
    data: Data = None,
    categorical: Categorical = None,
    settings: Settings = None,
    guide: Guide = None,
    estimator: Annotated[
        str,
        typer.Option(
            help="Gradient estimator, with its settings: stl, 'iwae(64)', 'beta(beta=2)'; auto measures several during training and picks the best. [dim]Default: analytic_kl.[/dim]"
        ),
    ] = "",
    epochs: Length = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Number of optimiser steps, instead of epochs.")] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(help="Maximum number of steps when training until convergence. [dim]Default: 100 000.[/dim]"),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(help="Maximum time in seconds when training until convergence. [dim]Default: 600.[/dim]"),
    ] = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    binarize: Annotated[
        str | None,
        typer.Option(
            help="Make grey images binary: threshold, static or dynamic (redrawn in each epoch). [dim]Default: leave the data as they are.[/dim]"
        ),
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            help="Missing values: mask leaves missing observations out of the likelihood. [dim]Default: an error.[/dim]"
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder of an interrupted or killed run, to continue its training.")
    ] = None,
) -> None:
    """Fit a pair to data; save its history, its posterior as netCDF, and a report page.

    The fit is saved while it runs. After a kill, SIGTERM or Ctrl-C, the same command continues it with exactly the same results.
    """
    import pandas as pd

    from ..runs.json_files import read_json_or_nothing
    from ..summaries.tables import table
    from .train import train as run

    asked: dict[str, Any] = {"pair": pair, "data": data, "estimator": estimator or None, "seed": seed}
    asked |= {"steps": steps, "epochs": epochs, "max_steps": max_steps, "max_seconds": max_seconds}
    asked |= {"batch_size": batch_size, "learning_rate": learning_rate, "binarize": binarize, "guide": guide}
    asked |= {"missing": missing, "categorical": categorical}
    asked["settings"] = settings_of("--set", settings) or None
    given = [name for name in asked if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    fit, folder = run(asked, given=given, device=device, out=out, resume=resume, console=console)
    if fit.steps:
        tail = fit.history.elbo_per_datum.tail(max(1, fit.steps // 10)).mean()
        console.print(f"{fit.bound} per datum, mean of the last tenth of {fit.steps} steps: [b]{tail:.4f}[/b] nats")
    if verdict := read_json_or_nothing(folder / "diagnosis.json").get("verdict"):
        console.print(Panel(escape(str(verdict)), title="Verdict", title_align="left"))
    if (estimates := read_json_or_nothing(folder / "estimates.json")).get("rows"):
        console.print(table(pd.DataFrame(estimates["rows"], columns=estimates["columns"]).head(MOST_ROWS)))
    point_to(folder)


app.command(epilog=EXAMPLES)(run)


@app.command(name="list", epilog="Examples:\n\n  vbayes list\n\n  vbayes list | less")
def list_() -> None:
    """List the pairs, the estimators with their properties and requirements, and the data sets."""
    from .catalogue import catalogue

    for part in catalogue():
        console.print(part)


app.command(epilog=PREDICT)(predict)
app.command(epilog=REPORT)(report)


app.command(epilog=OF_PAGES)(page)


def _in_words(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Formats a warning without its source line, which is not the user's."""
    return f"Warning: {message}\n"


def main(args: list[str] | None = None) -> None:
    """Runs the command line. Errors of vbayes are shown in a panel and give exit code 2; SIGTERM gives 143 once the fit is saved."""
    alone = threading.current_thread() is threading.main_thread()  # signals only arrive in the main thread
    before = signal.signal(signal.SIGTERM, terminated) if alone else None
    home.settle()
    shown, warnings.formatwarning = warnings.formatwarning, _in_words
    try:
        outcome: Any = app(args, standalone_mode=True)
    except VBayesError as error:
        panel = Panel(
            escape(str(error)), title=type(error).__name__, title_align="left", border_style="red", highlight=False
        )
        Console(stderr=True).print(panel)
        sys.exit(2)
    finally:
        warnings.formatwarning = shown
        if alone:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    sys.exit(outcome)
