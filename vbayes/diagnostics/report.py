"""A fit as a folder with a page: whether it is to be believed, what it has learned, what it predicts."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments.instance import Instance
from ..arguments.kind import Optional
from ..arguments.takes import takes
from ..errors import BadPair, Unsuitable
from ..estimators import name_of
from ..export.arviz import to_netcdf
from ..export.to_arviz import to_arviz
from ..inference.prediction import Prediction
from ..runs.folder import environment, unfinished
from ..runs.json_files import write_json
from ..runs.picture import save_figure
from ..runs.report import report as page
from .diagnosis import Diagnosis

if TYPE_CHECKING:
    from ..training.result import Fit

PREDICTION = Optional(Instance(Prediction, "a vb.Prediction", "fit.predict(new_rows)"))
ROWS = 100  # of the data, whose draws are kept


@takes(predictions=PREDICTION)
def report(
    fit: Fit, folder: str | Path, *, predictions: Prediction | None = None, draws: int = 500, seed: int = 0
) -> Path:
    """Writes a folder with `report.html`, the files that it was made from, the fit and draws for ArviZ: all of it or nothing.

    Args:
        fit: From `vb.fit`.
        folder: That is not there yet, or is empty.
        predictions: To stand in it too: a table, a figure, and ArviZ's groups.
        draws: That are kept, of the first 100 rows.
        seed: Of those draws.

    Returns:
        The page's path.

    Raises:
        OutputUnwritable: The folder holds something already, or can't be made.

    Examples:
        >>> fit.report("radon", predictions=fit.predict(new_rows))
    """
    folder, device = Path(folder), str(fit.data.first.device)
    with unfinished(folder) as place:
        found: dict[str, Any] = {
            "command": "fit",
            "pair": fit.pair.name,
            "data": fit.data.name,
            "estimator": name_of(fit.estimator),
        }
        found |= {"steps": fit.steps, "rows": len(fit.data), "batch_size": fit.batch_size, "seed": fit.seed}
        if predictions is not None:
            found["predictions"] = predictions.verdict()
        write_json(place / "config.json", found)
        write_json(place / "environment.json", environment(device=device, seed=fit.seed))
        fit.save(place / "fit.safetensors")
        fit.history.to_csv(place / "history.csv", index=False)
        if fit.steps:
            save_figure(fit.plot().figure, place / "training.png")
        to_netcdf(drawn(fit, draws=draws, seed=seed, predictions=predictions), place / "posterior.nc")
        if predictions is not None:
            predictions.to_dataframe().to_csv(place / "predictions.csv", index=False)
            save_figure(predictions.plot().figure, place / "predictions.png")
        with suppress(Unsuitable):  # a pair without a posterior
            keep_diagnosis(fit.diagnosis or fit.diagnose(), place)
        page(place)
    return folder / "report.html"


def drawn(fit: Fit, **how: Any) -> Any:
    """Draws for the first rows; for all of them where the model has latents for each, or can't be called with a part."""
    if len(fit.data) > ROWS:
        with suppress(Unsuitable, BadPair):
            return to_arviz(fit, fit.data.rows(slice(0, ROWS)), **how)
    return to_arviz(fit, **how)


def keep_diagnosis(found: Diagnosis, folder: Path, *, more: str = "") -> None:
    """Whether a fit is to be believed: in words for its page, with more words behind them, and as a picture."""
    numbers = {name: getattr(found, name) for name in ("k_hat", "k_hat_se", "effective", "elbo", "log_evidence")}
    kept = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
    verdict = " ".join(filter(None, (found.verdict(), more)))
    words = {"verdict": verdict, "trust": found.trust, "converged": found.converged, "draws": found.draws}
    write_json(folder / "diagnosis.json", words | kept)
    save_figure(found.plot(), folder / "diagnosis.png")
