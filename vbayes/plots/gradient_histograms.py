"""Single draws of a gradient around the exact one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure

from ..arguments.kind import Anything, Mapped, Several
from ..arguments.takes import takes
from ..arguments.whole import Whole
from ..errors import BadInput
from .palette import style

WIDE = 30.0  # a histogram that is this many times as wide as the narrowest gets its own axis


@takes(draws=Mapped(Several(Anything(), 2, 2)), bins=Whole(1, drawn=True))
def gradient_histograms(draws: Mapping[str, tuple[Sequence[float], float]], *, bins: int = 40) -> Figure:
    """Plots for each estimator a histogram of its draws projected onto the exact gradient, with the norm of that gradient and the mean of the draws.

    Histograms that are much wider than the narrowest have their own axes, which are marked.

    Args:
        draws: `Comparison.along()`.
        bins: Number of bins of each histogram.

    Raises:
        BadInput: There are no draws, because the exact gradient is not known.
    """
    shown = {name: (np.asarray(values), right) for name, (values, right) in draws.items() if len(values)}
    if not shown:
        raise BadInput(
            f"There are no draws projected onto an exact gradient for {', '.join(draws) or 'any estimator'}. Wanted: a comparison with an oracle, and a group "
            "and point at which the exact gradient is not zero."
        )
    names = list(draws)
    figure, axes = pyplot.subplots(
        len(shown), 1, figsize=(7, 0.85 * len(shown) + 0.9), layout="constrained", squeeze=False
    )
    spreads = {name: float(values.std()) for name, (values, _) in shown.items()}
    least = min(spreads.values())
    common = [name for name in shown if spreads[name] <= WIDE * max(least, 1e-300)]
    pooled = np.concatenate([shown[name][0] for name in common])
    low, high = np.quantile(pooled, [0.002, 0.998])
    for ax, (name, (values, right)) in zip(axes[:, 0], shown.items(), strict=True):
        label, colour, _ = style(name, names)
        own = name not in common
        left, end = np.quantile(values, [0.005, 0.995]) if own else (min(low, right), max(high, right))
        ax.hist(values, bins=np.linspace(left, end, bins), color=colour, alpha=0.75)
        ax.axvline(right, color="black", lw=1.4)
        ax.axvline(values.mean(), color=colour, lw=1.4, ls="--")
        ax.set_xlim(left, end)
        ax.set_yticks([])
        ax.set_ylabel(label + "\n(own axis)" * own, rotation=0, ha="right", va="center", fontsize=9)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(labelsize=8)
    axes[-1, 0].set_xlabel(
        "projection onto the exact gradient (nats); black: its norm, dashed: mean of the draws", fontsize=9
    )
    figure.suptitle("Single draws of the gradient", x=0.01, ha="left", fontsize=11)
    return figure
