"""Model comparison: which of several models explains the data best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..arguments.kind import Anything, Mapped, Optional
from ..arguments.real import Real
from ..arguments.takes import takes
from ..errors import BadInput, Unsuitable
from ..pair.paired import Model
from ..summaries.card import Card, Displayable, counted, with_error
from ..summaries.joint import pairs_limit
from .evidence import Evidence, Method, log_evidence

MOST = 5  # models on a card


@dataclass(frozen=True, repr=False)
class ModelComparison(Displayable):
    """Result of `vb.compare_models`: evidences of the same data under several models.

    Attributes:
        evidences: Model name → its `Evidence`.
        prior: Model name → its prior probability.
    """

    evidences: dict[str, Evidence]
    prior: dict[str, float]

    def card(self) -> Card:
        """The evidence of each model, best first."""
        rows: list[tuple[str, str]] = []
        for row in self.to_dataframe().head(MOST).itertuples():
            text = f"{with_error(row.log_evidence, row.se or math.nan, 6)} nats ({row.direction})"
            rows.append((row.model, text + (f", {with_error(row.behind, row.behind_se, 3)} behind" if rows else "")))
        if (more := len(self.evidences) - MOST) > 0:
            rows.append(("", f"and {more} more"))
        data = dict.fromkeys(one.data for one in self.evidences.values())
        return Card(f"ModelComparison: {counted(len(self.evidences), 'model')} on {', '.join(data)}", tuple(rows))

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each model, best first: `log_evidence` in nats, its standard error `se` over the draws, and its `direction`; `behind`, the
        distance to the best model; and `behind_se`, the standard error of that distance, over the rows of the data (paired by row) or, where rows are not independent, over the draws.
        """
        best = max(self.evidences.values(), key=lambda e: e.value)
        rows = []
        for name, one in self.evidences.items():
            behind, se = best.value - one.value, math.hypot(best.se, one.se)
            if best.per_datum is not None and one.per_datum is not None and one.rows > 1:
                se = float(np.std(best.per_datum - one.per_datum, ddof=1)) * one.rows**0.5
            rows.append(
                {"model": name, "log_evidence": one.value, "se": one.se, "direction": one.direction, "behind": behind, "behind_se": se if one is not best else 0.0}
            )  # fmt: skip
        return pd.DataFrame(rows).sort_values("log_evidence", ascending=False, ignore_index=True)

    def probabilities(self) -> pd.DataFrame:
        """p(model | x) of each datum on its own: one row for each datum, one column for each model.

        Raises:
            Unsuitable: Under some model the rows are not independent.
        """
        columns = []
        for name, one in self.evidences.items():
            if one.per_datum is None:
                raise Unsuitable(
                    f"Model {name!r} has no separate evidence for each row ({one.method}). Wanted: method='iw' or 'elbo', on a pair whose rows are independent."
                )
            columns.append(one.per_datum + math.log(self.prior[name]))
        log_joint = np.stack(columns, 1)
        log_joint = log_joint - log_joint.max(1, keepdims=True)
        chance = np.exp(log_joint)
        return pd.DataFrame(chance / chance.sum(1, keepdims=True), columns=list(self.evidences))

    def classify(self) -> np.ndarray:
        """(N,) the most probable model for each datum."""
        return self.probabilities().idxmax(axis=1).to_numpy()

    def verdict(self) -> str:
        """The comparison in one sentence. If all models are equally good, it calls any worse than the best with a probability of about 5 %, whatever their number."""
        table = self.to_dataframe()
        best, rest = table.iloc[0], table.iloc[1:]
        rows = next(iter(self.evidences.values())).rows
        paired = rows > 1 and all(one.per_datum is not None for one in self.evidences.values())
        limit = pairs_limit(len(table), freedom=rows - 1 if paired else math.inf)
        clear = rest.behind > limit * rest.behind_se
        far, near = rest[clear], rest[~clear]
        text = (
            f"Of {len(table)} models {best.model} gives {rows} rows the highest evidence, {best.log_evidence:.6g} nats"
        )
        beaten = ", ".join(f"{r.model} by {r.behind:.3g} ± {r.behind_se:.2g}" for r in far.itertuples())
        equal = ", ".join(f"{r.model} ({r.behind:.3g} ± {r.behind_se:.2g} nats behind)" for r in near.itertuples())
        text += f"; it beats {beaten} nats" if beaten else ""
        text += f"; it can't be distinguished from {equal}" if equal else ""
        bounds = [r.model for r in table.itertuples() if r.direction == "lower"]
        return text + (f". The values for {', '.join(bounds)} are lower bounds." if bounds else ".")


@takes(models=Mapped(Anything()), prior=Optional(Mapped(Real(above=0.0))))
def compare_models(
    models: Mapping[str, Model],
    data: Any,
    *,
    prior: Mapping[str, float] | None = None,
    method: Method = "auto",
    num_particles: int | None = None,
    temperatures: int = 200,
    batch_size: int = 1000,
    seed: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> ModelComparison:
    """Compares models by their evidence, in total and for each datum: which model is best, and which class does x belong to?

    Args:
        models: Name → pair or fit. For classification by Bayes' rule, one model for each class, trained on the data of that class.
        data: The rows on which all models are compared; use held-out data, unless the models' parameters were integrated over.
        prior: Name → prior probability; uniform if None.
        method, num_particles, temperatures, batch_size, seed, device, progress: As for `log_evidence`.

    Raises:
        BadInput: Fewer than two models, or a prior over other names.

    Examples:
        >>> sizes = {f"{j} latents": vb.fit(vb.pairs.vae(latent=j), x, epochs=50, batch_size=100) for j in (2, 5, 10)}
        >>> print(vb.compare_models(sizes, x_new).verdict())
        >>> digits = {str(d): vb.fit(vb.pairs.vae(), x[label == d], epochs=200) for d in range(10)}
        >>> vb.compare_models(digits, x_new).classify()
    """
    if len(models) < 2:
        raise BadInput(
            f"{len(models)} model{'s' * (len(models) != 1)}. Wanted: at least two to compare, as {{'a': fit_a, 'b': fit_b}}."
        )
    prior = dict.fromkeys(models, 1 / len(models)) if prior is None else dict(prior)
    if set(prior) != set(models) or not all(p > 0 for p in prior.values()):
        raise BadInput(f"prior={prior}. Wanted: a probability above 0 for each of {', '.join(map(repr, models))}.")
    whole = sum(prior.values())
    how: dict[str, Any] = {
        "method": method, "num_particles": num_particles, "temperatures": temperatures, "batch_size": batch_size, "seed": seed, "device": device, "progress": progress,
    }  # fmt: skip
    evidences = {name: log_evidence(model, data, **how) for name, model in models.items()}
    return ModelComparison(evidences, {name: p / whole for name, p in prior.items()})
