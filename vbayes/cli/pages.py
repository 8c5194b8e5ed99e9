"""`vbayes page`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ..progress import Terminal

EXAMPLES = "Examples:\n\n  vbayes page\n\n  vbayes page latent --out latent_space.html"


def page(
    which: Annotated[
        str,
        typer.Argument(help="bound: log p(x) = ELBO + KL, with a q that you drag. latent: the latent space of a VAE."),
    ] = "bound",
    out: Annotated[
        Path | None, typer.Option(help="Output file. [dim]Default: watch_the_bound.html or latent_space.html.[/dim]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Write an interactive page: one file that opens in any browser, without a server or a network."""
    from ..laboratory.pages.page import page as write

    target = write(which, out, seed=seed)  # type: ignore[arg-type]  # what it is, `write` looks at
    Terminal().print(f"Open [b]{escape(str(target))}[/b].", soft_wrap=True)
