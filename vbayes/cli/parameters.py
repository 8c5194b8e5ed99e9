"""Arguments and options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .code import spelled

PairName = Annotated[
    str,
    typer.Argument(
        callback=spelled,
        help="A built-in pair (see [b]vbayes list[/b]), or package.module:name or file.py:name of a model, a pair, or a function that returns a pair.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="A data set (see [b]vbayes list[/b]), or a table in a file: my.csv, my.parquet. [dim]Default: the pair's own.[/dim]"
    ),
]
Categorical = Annotated[
    str | None,
    typer.Option(
        help="Columns of the table that name groups although they look like numbers, such as postcodes, separated by commas. [dim]Other text is names anyway.[/dim]"
    ),
]
Seed = Annotated[int, typer.Option(help="Random seed.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Out = Annotated[Path | None, typer.Option(help="Run folder. [dim]Default: runs/COMMAND-PAIR-TIME.[/dim]")]
Epochs = Annotated[
    int | None, typer.Option(min=0, help="Number of passes over the data. [dim]Default: the pair's own.[/dim]")
]
Length = Annotated[
    int | None, typer.Option(min=0, help="Number of passes over the data. [dim]Default: train until convergence.[/dim]")
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Rows in a minibatch. [dim]Default: the pair's own.[/dim]")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="A setting of the pair, NAME=VALUE, such as latent=10. Can be repeated; an unknown name lists the valid ones.",
    ),
]
Guide = Annotated[
    str | None,
    typer.Option(
        help="Another guide: auto, point, diagonal, low_rank, full or flow. [dim]Default: the pair's own, or auto for a model.[/dim]"
    ),
]
Rate = Annotated[
    float | None, typer.Option(help="Adam's learning rate. [dim]Default: the pair's own, or found automatically.[/dim]")
]
