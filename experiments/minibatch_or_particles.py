"""Is one draw a datum enough if the minibatch is large enough, as Kingma & Welling say?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

import vbayes as vb
from vbayes.plots import noise_split

BUDGET = 100  # evaluations: rows × draws


def measure(*, minibatches: int, draws: int, epochs: int) -> pd.DataFrame:
    """Noise of the minibatch and of the draws, at the start and the end of the training of the VAE of the digits."""
    data = vb.data.digits()
    start = vb.fit(vb.pairs.vae(), data, batch_size=100, learning_rate=1e-3, epochs=0, progress=False)
    places = {"start": start, "end": start.resume(epochs=epochs)}
    tables = []
    for at, place in places.items():
        for estimator in ("analytic_kl", "score"):
            split = vb.noise_split(
                place,
                estimator=estimator,
                batch_sizes=(10, 100),
                particles=(1, 4),
                minibatches=minibatches,
                draws=draws,
            )
            table = split.to_dataframe()
            best, one = split.splits(BUDGET).iloc[0], split.predict(BUDGET, 1)
            extra = {
                "best_batch_size": int(best.batch_size),
                "best_particles": int(best.particles),
                "loss_of_one_draw": one / best.variance,
            }
            tables.append(table.assign(at=at, estimator=estimator, **extra))
    table = pd.concat(tables, ignore_index=True)
    return table[
        ["at", "estimator", "batch_size", "particles", "minibatch", "particle", "total", "total_se", "predicted", "best_batch_size",
         "best_particles", "loss_of_one_draw"]
    ]  # fmt: skip


def verdict(table: pd.DataFrame) -> str:
    said, losses = [], []
    for (at, name), own in table.groupby(["at", "estimator"], sort=False):
        row = own[(own.batch_size == 100) & (own.particles == 1)].iloc[0]
        losses.append(row.loss_of_one_draw)
        said.append(
            f"{name} at the {at}: {max(0.0, row.minibatch / row.total):.0%} of the variance is the minibatch's, and {BUDGET} evaluations are best spent on "
            f"{row.best_batch_size} rows × {row.best_particles}"
        )
    wrong = ((table.predicted - table.total).abs() / table.total).max()
    return (
        f"{'Holds' if max(losses) < 1.05 else 'Fails here'}: with 100 rows, one draw each is {'the best split' if max(losses) < 1.05 else 'not the best split'} of the "
        f"budget (at most {max(losses):.3g}× the variance of the best). {'; '.join(said)}. The law of total variance misses by {wrong:.0%} at most."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    cells = list(table.groupby(["at", "estimator"], sort=False))
    drawing, axes = plt.subplots(1, len(cells), figsize=(4 * len(cells), 3.8), layout="constrained")
    for ax, ((at, name), own) in zip(axes, cells, strict=True):
        noise_split(own.reset_index(drop=True), ax)
        ax.set_title(f"{name} at the {at}", loc="left", fontsize=11)
        ax.set_ylabel("variance of the gradient (nats², ± 1 SE)" if ax is axes[0] else "")
        if ax is not axes[0]:
            ax.get_legend().remove()
    return drawing


experiment = vb.Experiment(
    question="Is one draw a datum enough if the minibatch is large enough?",
    claim="Yes: with M = 100, L = 1 is enough (Kingma & Welling 2013, arXiv:1312.6114, section 2.3); rows and their draws are one budget, and rows are the better buy.",
    measure=measure,
    full={"minibatches": 400, "draws": 50, "epochs": 200},
    quick={"minibatches": 60, "draws": 10, "epochs": 30},
    figure=figure,
    verdict=verdict,
    notes="An evaluation is one row with one draw. `loss_of_one_draw`: the variance of 100 rows × 1 draw, in that of the best split.",
    summary=lambda table: table.drop(columns=["total_se", "predicted"]),
    sections=("at", "estimator"),
)
