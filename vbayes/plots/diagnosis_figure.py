"""Whether a fit can be trusted, in one figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..arguments.kind import Optional
from ..arguments.real import Real
from ..arguments.takes import takes
from ..arguments.tensor import Table
from .frame import framed
from .history import history as elbo_history

OURS, THEIRS, WARNING = "#56B4E9", "#0072B2", "#D55E00"
SHOWN = 12  # latents
WORST_K = 0.7


@takes(k_hat=Real(finite=False), sites=Table(), history=Optional(Table(("step", "elbo_per_datum"))))
def diagnosis_figure(
    sites: pd.DataFrame,
    tail: np.ndarray,
    k_hat: float,
    title: str,
    *,
    k_hats: np.ndarray | None = None,
    apart: np.ndarray | None = None,
    history: pd.DataFrame | None = None,
    bound: str = "ELBO",
) -> Figure:
    """Plots the weights, where they move the draws, and the ELBO during training if there was any.

    Args:
        sites: `Diagnosis.sites`.
        tail: `Diagnosis.tail`.
        k_hat: k̂ of those weights.
        title: Title of the figure.
        k_hats: k̂ of each datum, shown instead of the tail.
        apart: k̂ of the latents of each datum, shown next to the tail; no panel if None.
        history: `Fit.history`; no panel if None or empty.
        bound: As for `history`.
    """
    trained = history is not None and len(history) > 1
    panels = 2 + trained + (apart is not None)
    figure, axes = pyplot.subplots(1, panels, figsize=(4.6 * panels, 3.9), layout="constrained")
    if k_hats is not None:
        _of_each(k_hats, axes[0])
    else:
        _tail(tail, k_hat, axes[0])
    _moved(sites, axes[1])
    if apart is not None:
        _of_each(apart, axes[2])
    if trained and history is not None:
        elbo_history(history, axes[-1], bound=bound)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def _tail(tail: np.ndarray, k_hat: float, ax: Axes) -> None:
    """The largest weights by rank; for a Pareto tail of shape k they lie on a line of slope −k."""
    heaviest = tail[tail > 0]
    if not len(heaviest):
        _nothing(ax, "no weights")
        return
    rank = np.arange(1, len(heaviest) + 1)
    ax.plot(rank, heaviest, ".", color=THEIRS, ms=4, label="weights")
    last = rank[-1]
    ax.plot(rank, heaviest[-1] * (last / rank) ** WORST_K, "--", color=WARNING, lw=1.2, label="slope of k = 0.7")
    ax.axhline(1.0, color="0.6", lw=0.8)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("rank of the draw")
    ax.set_ylabel("weight / mean weight")
    ax.legend(frameon=False, fontsize=9)
    framed(ax, rf"The heaviest weights: $\hat{{k}}$ = {k_hat:.2f}")


def _of_each(k_hats: np.ndarray, ax: Axes) -> None:
    finite = k_hats[np.isfinite(k_hats)]
    if not len(finite):
        _nothing(ax, r"no $\hat{k}$ is finite")
        return
    ax.hist(finite, bins=30, color=OURS, edgecolor="white", lw=0.4)
    ax.axvline(WORST_K, color=WARNING, ls="--", lw=1.2, label="0.7")
    ax.set_xlabel(r"$\hat{k}$")
    ax.set_ylabel("data")
    ax.legend(frameon=False, fontsize=9)
    framed(ax, rf"$\hat{{k}}$ of each datum: {np.mean(k_hats >= WORST_K):.0%} at 0.7 or above", grid="y")


def _moved(sites: pd.DataFrame, ax: Axes) -> None:
    """Mean ± sd of draws and weighted draws for the latents that are moved most, in sds of the draws."""
    rows = sites.head(SHOWN).iloc[::-1]
    if rows.empty:
        _nothing(ax, "no weights")
        return
    places = np.arange(len(rows))
    ax.axvspan(-1, 1, color=OURS, alpha=0.2, lw=0, label="q: mean ± sd")
    ax.axvline(0, color=OURS, lw=1)
    ax.errorbar(
        rows.moved, places, xerr=rows.sd_ratio, fmt="o", color=THEIRS, ms=4, lw=1.4, label="weighted: mean ± sd"
    )
    names = [f"{row.site}[{row.element}]" if row.element else row.site for row in rows.itertuples()]
    ax.set_yticks(places, names, fontsize=9)
    ax.set_ylim(-0.7, len(rows) + 0.9)
    ax.set_xlabel("sds of q")
    ax.legend(frameon=False, fontsize=9, loc="upper center", ncols=2)
    framed(ax, "Where the weights move the draws", grid="x")


def _nothing(ax: Axes, why: str) -> None:
    ax.text(0.5, 0.5, why, ha="center", va="center", transform=ax.transAxes, color="0.4")
    ax.set_axis_off()
