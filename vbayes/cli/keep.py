"""The run folder of a command: the fit is saved first and moved to its final place, then everything that can be recomputed from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ..data.dataset import Dataset
from ..diagnostics.report import drawn, keep_diagnosis, keep_estimates
from ..errors import OutputUnwritable, Unsuitable
from ..export.arviz import to_netcdf
from ..laboratory.comparison import Comparison
from ..laboratory.particles_signal import particles_signal
from ..runs.folder import environment
from ..runs.json_files import write_json
from ..runs.picture import save_figure
from ..runs.report import report
from ..runs.run_folder import RunFolder, whole
from ..training.result import Fit
from .job import Job, digest_of, is_file

FIT = "fit.safetensors"
UNFINISHED = "unfinished.json"
"""A file that exists as long as something is left to do, "fit" or "rest"; it has the arguments of the command."""

DRAWS = 500
PICTURES = 16


def configuration(
    command: str, pair: str, job: Job, options: dict[str, Any], *, seed: int, device: str, console: Console
) -> dict[str, Any]:
    """The beginning of a run's `config.json`, which the command completes; also prints what begins."""
    console.print(
        f"[b]{escape(job.pair.name)}[/b] on {escape(job.data.name)} of {len(job.data):,} rows, device {device}"
    )
    config: dict[str, Any] = {"command": command, "pair": pair, "data": job.data.name, **job.training}
    config |= {
        "optimizer": "Adam",
        "binarize": options.get("binarize"),
        "missing": options.get("missing"),
        "categorical": options.get("categorical"),
        "seed": seed,
        "device": device,
    }
    settings = {name: _written(value) for name, value in job.settings.items()}
    changed = {name: [_written(value) for value in both] for name, both in job.changed.items()}
    if is_file(options.get("data")):
        config |= {"file": options["data"], "sha256": digest_of(options["data"])}
    return config | {"guide": job.pair.word or "the pair's own", "settings": settings, "changed": changed}


def _written(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def publish(place: RunFolder, fit: Fit, config: dict[str, Any], unfinished: dict[str, Any]) -> None:
    """Moves a folder with the fit to its final place, so that later failures can't lose the fit."""
    with whole(place.path / "history.csv") as part:
        fit.history.to_csv(part, index=False)
    write_json(place.path / "config.json", config)
    write_json(place.path / "environment.json", environment(device=config["device"], seed=config["seed"]))
    write_json(place.path / UNFINISHED, unfinished)
    place.publish()


@contextmanager
def says_how(folder: Path, pair: str) -> Iterator[None]:
    """If a step after the fit fails, adds to the error that the fit is saved, and how to make the rest."""
    how = f"vbayes train {pair} --resume {folder}" if ":" in pair else f"vbayes report {folder}"
    kept = f"The fit is saved in {folder}, but some of its figures, draws and page are missing. Fix: `{how}` makes the rest."
    try:
        yield
    except OutputUnwritable as error:
        raise OutputUnwritable(f"{error}\n{kept}") from error
    except BaseException as error:  # a second Ctrl-C, SIGTERM, or anything that the model raises while drawing
        Console(stderr=True).print(kept, soft_wrap=True, markup=False, highlight=False)
        raise error


def rest(
    fit: Fit,
    job: Job,
    folder: Path,
    seed: int,
    *,
    draws: int = DRAWS,
    diagnosed: bool = False,
    comparison: Comparison | None = None,
    finished: bool = True,
) -> None:
    """Writes figures, draws and page. Each file is written completely or not at all.

    Args:
        fit: The fit.
        job: Its pair, data and settings.
        folder: The run folder.
        seed: Seed for draws.
        draws: Number of draws; 0 for a failed fit, whose draws would be meaningless.
        diagnosed: Whether to diagnose the fit.
        comparison: A comparison whose figure to make.
        finished: Whether nothing is left to do afterwards.
    """
    if comparison is not None:
        save_figure(comparison.plot(), folder / "comparison.png")
    if fit.steps:
        save_figure(fit.plot().figure, folder / "training.png")
    if draws:
        posterior = drawn(fit, draws=draws, seed=seed)
        to_netcdf(posterior, folder / "posterior.nc")
        if job.data.image:
            save_figure(_reconstructions(posterior, job.data), folder / "reconstructions.png")
    if diagnosed:
        _diagnose(fit, folder, seed)
    report(folder)
    if finished:
        (folder / UNFINISHED).unlink(missing_ok=True)


def _diagnose(fit: Fit, folder: Path, seed: int) -> None:
    with suppress(Unsuitable):  # the pair has no posterior
        keep_diagnosis(fit.diagnose(seed=seed), folder, more=particles_signal(fit, seed=seed))
        keep_estimates(fit, folder, seed=seed)


def _reconstructions(draws: Any, data: Dataset) -> Any:
    """A figure of some data (above) and the means of their posterior predictive distributions (below)."""
    from matplotlib import pyplot

    from ..plots import images

    (name, *_) = draws["observed_data"].data_vars
    given = draws["observed_data"][name].values[:PICTURES]
    made = draws["posterior_predictive"][name].values[0, :, :PICTURES].mean(0)
    figure, axes = pyplot.subplots(2, 1, figsize=(9, 1.9), layout="constrained")
    for ax, title, rows in zip(axes, ("data", "reconstructed: the mean of p(x̂|x)"), (given, made), strict=True):
        assert data.image
        pictures = rows.reshape(-1, *data.image)
        images(1 - pictures if data.photograph else pictures, ax, columns=PICTURES)
        ax.set_title(title, loc="left", fontsize=10)
    return figure
