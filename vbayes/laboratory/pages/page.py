"""Interactive pages, each one self-contained file that needs neither a server nor a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

from ...arguments.choice import Choice
from ...arguments.takes import takes
from ...errors import BadInput, OutputUnwritable
from ...training.result import Fit
from . import latent, watch_the_bound

Page = Literal["bound", "latent"]
WHICH = Choice(get_args(Page), "page")
TEMPLATES = Path(__file__).parent / "templates"
FILES = {
    "bound": ("watch_the_bound", "watch_the_bound", ("numbers", "watch_the_bound")),
    "latent": ("latent_space", "latent", ("latent",)),
}
"""Page → its default file name, its template, and its scripts."""


@takes(which=WHICH)
def page(which: Page = "bound", out: str | Path | None = None, *, fit: Fit | None = None, seed: int = 0) -> Path:
    """Writes an interactive page: one HTML file that opens in any browser, without a server or a network.

    Args:
        which: "bound" shows a posterior of two latents with a normal q that you drag, the evidence split into ELBO and KL, and five gradient estimators next to the exact gradient,
            with questions. "latent" shows a point that you drag through the latent space of a variational autoencoder, with the image that it generates.
        out: Output file; `watch_the_bound.html` or `latent_space.html` if None.
        fit: For "latent": a fit of `vb.pairs.vae(latent=2)` to pictures; one to `vb.data.digits()` is trained if None.
        seed: Seed for the draws and the training for the page.

    Returns:
        Path of the file.

    Raises:
        BadInput: There is no such page, or `fit` is given for a page that doesn't use it.
        Unsuitable: The page can't show this fit.
        OutputUnwritable: The file can't be written.

    Examples:
        >>> vb.page("bound")
        >>> vb.page("latent", "space.html", fit=vb.fit(vb.pairs.vae(latent=2), vb.data.digits(), epochs=50, batch_size=100))
    """
    if fit is not None and which != "latent":
        raise BadInput(f"page({which!r}) takes no fit. Wanted: page('latent', fit=...), or no fit.")
    found = watch_the_bound.figures(seed=seed) if which == "bound" else latent.figures(fit, seed=seed)
    target = Path(f"{FILES[which][0]}.html" if out is None else out)
    try:
        target.write_text(filled(which, found), encoding="utf-8")
    except OSError as error:
        raise OutputUnwritable(f"Can't write {target}: {error}. Wanted: a file in an existing folder.") from error
    return target


def filled(which: Page, found: dict[str, Any]) -> str:
    """A page's template, filled with its scripts and numbers."""
    _, name, scripts = FILES[which]
    html = (TEMPLATES / f"{name}.html").read_text(encoding="utf-8")
    for script in scripts:
        html = html.replace(f"/* {script}.js */", (TEMPLATES / f"{script}.js").read_text(encoding="utf-8"))
    return html.replace("/* figures */", json.dumps(found, separators=(",", ":")).replace("</", "<\\/"))
