"""Report of a fit, as a folder with a page: whether it can be trusted, what it has learned, and what it predicts."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..arguments.instance import Instance
from ..arguments.kind import Optional
from ..arguments.takes import takes
from ..errors import BadPair, OutputUnwritable, Unsuitable
from ..estimators import name_of
from ..export.arviz import to_netcdf
from ..export.to_arviz import to_arviz
from ..inference.prediction import Prediction
from ..runs.folder import environment, unfinished
from ..runs.json_files import write_json
from ..runs.picture import save_figure
from ..runs.report import report as page
from ..runs.report import written
from ..summaries.card import first_few
from .diagnosis import Diagnosis

if TYPE_CHECKING:
    from ..training.result import Fit

PREDICTION = Optional(Instance(Prediction, "a vb.Prediction", "fit.predict(new_rows)"))
DRAWN, MOST = 4000, 20  # draws for the estimates; elements of a latent that are shown
AT_ONCE = 2_000_000  # maximum number of elements in these draws
METHODS = {
    "exact": "from the exact posterior",
    "guide": "of the guide",
    "psis": "of the guide, resampled by importance weights",
    "importance": "of the guide, resampled by importance weights",
}
ROWS = 100  # rows whose draws are saved
PAGES = (".html", ".htm")


@takes(predictions=PREDICTION)
def report(
    fit: Fit, folder: str | Path, *, predictions: Prediction | None = None, draws: int = 500, seed: int = 0
) -> Path:
    """Writes a report of a fit: a folder with `report.html`, the files it is made from, the fit, and draws for ArviZ. If the name ends in .html, writes only that page.

    Args:
        fit: From `vb.fit`.
        folder: A new or empty folder, which is written completely or not at all; or an .html file, which may replace an older one.
        predictions: Predictions to include, as a table, a figure, and ArviZ groups.
        draws: Number of draws to save in the folder, for the first 100 rows.
        seed: Seed for those draws.

    Returns:
        Path of the page.

    Raises:
        OutputUnwritable: The folder is not empty, or the folder or page can't be written.

    Examples:
        >>> fit.report("radon", predictions=fit.predict(new_rows))
        >>> fit.report("radon.html")
    """
    folder = Path(folder)
    if folder.suffix.lower() in PAGES:
        if folder.is_dir():
            raise OutputUnwritable(
                f"{folder} is an existing folder, so no page can be written there. Fix: remove it, or fit.report({str(folder.with_suffix(''))!r}), which writes a folder."
            )
        with TemporaryDirectory() as place:
            _shown(fit, Path(place), predictions)
            return written(Path(place), folder)
    with unfinished(folder) as place:
        fit.save(place / "fit.safetensors")
        to_netcdf(drawn(fit, draws=draws, seed=seed, predictions=predictions), place / "posterior.nc")
        if predictions is not None:
            predictions.to_dataframe().to_csv(place / "predictions.csv", index=predictions.index is not None)
        _shown(fit, place, predictions)
        page(place)
    return folder / "report.html"


def _shown(fit: Fit, place: Path, predictions: Prediction | None) -> None:
    """The contents of a fit's page."""
    found: dict[str, Any] = {
        "command": "fit", "pair": fit.pair.name, "data": fit.data.name, "estimator": name_of(fit.estimator), "bound": fit.bound, "steps": fit.steps, "rows": len(fit.data),
        "batch_size": fit.batch_size, "seed": fit.seed,
    }  # fmt: skip
    found |= {"guide": fit.guide} if fit.guide else {}
    if predictions is not None:
        found["predictions"] = predictions.verdict()
        save_figure(predictions.plot().figure, place / "predictions.png")
    write_json(place / "config.json", found)
    write_json(place / "environment.json", environment(device=str(fit.data.first.device), seed=fit.seed))
    fit.history.to_csv(place / "history.csv", index=False)
    if fit.steps:
        save_figure(fit.plot().figure, place / "training.png")
    with suppress(Unsuitable):  # the pair has no posterior
        keep_diagnosis(fit.diagnosis or fit.diagnose(), place)
        keep_estimates(fit, place)


def drawn(fit: Fit, **how: Any) -> Any:
    """Draws for the first rows; for all rows if the model has latents for each, or can't be called with a subset."""
    if len(fit.data) > ROWS:
        with suppress(Unsuitable, BadPair):
            return to_arviz(fit, fit.data.rows(slice(0, ROWS)), **how)
    return to_arviz(fit, **how)


def keep_estimates(fit: Fit, folder: Path, *, seed: int = 0) -> None:
    """Means, standard deviations and intervals of the latents with few elements, for the page, from draws as the verdict advises; nothing if all are larger.

    Raises:
        Unsuitable: There is no posterior to draw from.
    """
    sizes = {name: one[0].numel() for name, one in fit.posterior(draws=2, method="guide", seed=seed).draws.items()}
    small = [name for name, size in sizes.items() if size <= MOST]
    if not small:
        return
    found = fit.posterior(draws=min(DRAWN, max(ROWS, AT_ONCE // sum(sizes.values()))), seed=seed)
    table = replace(found, draws={name: found.draws[name] for name in small}).to_dataframe().drop(columns="site")
    larger = [name for name in found.draws if name not in small]
    words = f"Posterior means, standard deviations and central 90 % intervals, from {len(found):,} draws {METHODS[found.method]}."
    words += f" Not shown, as they have more than {MOST} elements: {first_few(larger)}." if larger else ""
    write_json(folder / "estimates.json", {"words": words, "columns": list(table), "rows": table.to_numpy().tolist()})


def keep_diagnosis(found: Diagnosis, folder: Path, *, more: str = "") -> None:
    """Whether a fit can be trusted, for its page: the verdict, details, and a figure."""
    numbers = {name: getattr(found, name) for name in ("k_hat", "k_hat_se", "effective", "elbo", "log_evidence")}
    kept = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
    verdict = " ".join(filter(None, (found.verdict(), more)))
    words = {
        "verdict": verdict,
        "trust": found.trust,
        "converged": found.converged,
        "draws": found.draws,
        "rows": found.rows,
    }
    write_json(folder / "diagnosis.json", words | kept)
    save_figure(found.plot(), folder / "diagnosis.png")
