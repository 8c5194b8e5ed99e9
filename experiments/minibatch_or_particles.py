"""Is one draw per datum enough if the minibatch is large enough, as Kingma & Welling say?"""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pandas as pd

import vbayes as vb
from vbayes.plots import noise_split
from vbayes.plots.palette import style

SIZES, DRAWS = (25, 100), (1, 4)  # 100 × 1 and 25 × 4 cost the same


def measure(*, minibatches: int, draws: int, epochs: int) -> pd.DataFrame:
    """Gradient noise from the minibatch and from the draws, at the start and at the end of training a VAE of the digits."""
    data = vb.data.digits()
    start = vb.fit(vb.pairs.vae(), data, batch_size=100, learning_rate=1e-3, epochs=0, progress=False)
    checkpoints = {"start": start, "end": start.resume(epochs=epochs)}
    tables = []
    for at, checkpoint in checkpoints.items():
        for estimator in ("analytic_kl", "score"):
            split = vb.noise_split(
                checkpoint,
                estimator=estimator,
                batch_sizes=SIZES,
                particles=DRAWS,
                minibatches=minibatches,
                draws=draws,
            )
            tables.append(split.to_dataframe().assign(at=at, estimator=estimator))
    table = pd.concat(tables, ignore_index=True)
    return table[
        ["at", "estimator", "batch_size", "particles", "minibatch", "particle", "total", "total_se", "predicted"]
    ]


def ratio(own: pd.DataFrame, rows: int, draws: int) -> tuple[float, float]:
    """The variance with this many rows and draws relative to 100 rows with one draw, and its standard error; the two used different minibatches or
    draws."""
    by_design = own.set_index(["batch_size", "particles"])
    other, one = by_design.loc[(rows, draws)], by_design.loc[(100, 1)]
    value = other.total / one.total
    return value, value * math.hypot(other.total_se / other.total, one.total_se / one.total)


def verdict(table: pd.DataFrame) -> str:
    said, leads, misses = [], [], []
    for (at, name), own in table.groupby(["at", "estimator"], sort=False):
        same, same_se = ratio(own, 25, 4)
        more, more_se = ratio(own, 100, 4)
        leads.append((same - 1) / same_se)
        misses.extend((own.predicted / own.total - 1).abs())
        one = own[(own.batch_size == 100) & (own.particles == 1)].iloc[0]
        said.append(
            f"{name} at the {at}: {same:.2f} ± {same_se:.2f}, and 100 rows with 4 draws, at four times the cost, {more:.2f} ± {more_se:.2f} "
            f"({max(0.0, one.minibatch / one.total):.0%} of the variance of 100 × 1 is the minibatch's)"
        )
    head = (
        "Fails here"
        if min(leads) < -2
        else "Holds"
        if min(leads) > 2
        else "Holds, but for ties"
        if max(leads) > 2
        else "A tie"
    )
    return (
        f"{head}: 100 evaluations as 25 rows with 4 draws have, in the variance of 100 rows with one draw, {'; '.join(said)}. "
        f"The law of total variance predicts each design from the three others within {max(misses):.0%}."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    panels = list(table.groupby(["at", "estimator"], sort=False))
    drawing, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.8), layout="constrained")
    for ax, ((at, name), own) in zip(axes, panels, strict=True):
        noise_split(own.reset_index(drop=True), ax)
        ax.set_title(f"{style(name, [])[0]}, {at} of training", loc="left", fontsize=11)
        ax.set_ylabel("variance of the gradient (nats², ± 1 SE)" if ax is axes[0] else "")
        if ax is not axes[0]:
            ax.get_legend().remove()
    return drawing


experiment = vb.Experiment(
    question="Is one draw per datum enough if the minibatch is large enough?",
    claim="Yes: with M = 100, L = 1 is enough (Kingma & Welling 2013, arXiv:1312.6114, section 2.3); for a fixed number of rows times draws, more rows are better than more draws.",
    measure=measure,
    full={"minibatches": 400, "draws": 50, "epochs": 200},
    quick={"minibatches": 100, "draws": 10, "epochs": 30},
    figure=figure,
    verdict=verdict,
    notes="An evaluation is one row with one draw. `predicted`: the total variance predicted by the law of total variance, fitted to the three other designs.",
    summary=lambda table: table.drop(columns=["predicted"]),
    sections=("at", "estimator"),
)
