"""One colour, one mark and one name for each estimator, the same in every figure."""

from __future__ import annotations

from typing import Any

# Okabe & Ito's colours, told apart with any colour vision; marks differ too, for print in grey.
STYLES = {
    "score": ("Score", "#D55E00", "X"),
    "rloo": ("RLOO (K = 2)", "#E69F00", "P"),
    "trace": ("Trace", "#000000", "*"),
    "pathwise": ("Pathwise", "#56B4E9", "s"),
    "analytic_kl": ("AnalyticKL", "#0072B2", "o"),
    "stl": ("STL", "#009E73", "D"),
}
OTHERS = ("#CC79A7", "#7F7F7F", "#8C564B", "#BCBD22")
GRID: dict[str, Any] = {"color": "#888888", "alpha": 0.25, "linewidth": 0.6}


def style(estimator: str, names: list[str]) -> tuple[str, str, str]:
    """Label, colour and marker of one of several estimators; those without a fixed colour take turns."""
    if estimator in STYLES:
        return STYLES[estimator]
    unknown = [name for name in names if name not in STYLES]
    return estimator, OTHERS[unknown.index(estimator) % len(OTHERS)], "v"
