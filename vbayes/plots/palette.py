"""The colour, marker and label of each estimator, the same in every figure."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

# Okabe & Ito's colours, which are distinguishable with any colour vision, for the usual estimators; related ones have shades of one hue. Markers differ
# too, for printing in grey.
STYLES = {
    "trace": ("Trace", "#000000", "*"),
    "pathwise": ("Pathwise", "#56B4E9", "s"),
    "analytic_kl": ("AnalyticKL", "#0072B2", "o"),
    "stl": ("STL", "#009E73", "D"),
    "adaptive_stl": ("AdaptiveSTL", "#66C2A5", "d"),
    "beta": ("Beta", "#66C2A5", "D"),
    "score": ("Score", "#D55E00", "X"),
    "baselined": ("Baselined", "#F4A582", "8"),
    "rloo": ("RLOO (K = 2)", "#E69F00", "P"),
    "vargrad": ("VarGrad (K = 2)", "#B8860B", "p"),
    "rao_blackwell": ("RaoBlackwell (K = 2)", "#8C510A", "h"),
    "measure_valued": ("MeasureValued", "#6A3D9A", "^"),
    "disarm": ("DisARM (K = 2)", "#CC79A7", "o"),
    "rebar": ("REBAR", "#8E3A6B", "s"),
    "relax": ("RELAX", "#5B2333", "v"),
    "gumbel_softmax": ("GumbelSoftmax", "#E3B5D2", "D"),
    "enumerated": ("Enumerated", "#444444", "H"),
    "iwae": ("IWAE", "#7B68EE", "v"),
    "dreg": ("DReG", "#3B2FA0", "^"),
    "miwae": ("MIWAE", "#9E96F0", "<"),
    "ciwae": ("CIWAE", "#B9B3F5", ">"),
    "piwae": ("PIWAE", "#5A4FCF", "d"),
    "vimco": ("VIMCO", "#E15759", "v"),
    "ovis": ("OVIS", "#8B1A1A", "^"),
    "wake_sleep": ("WakeSleep", "#7F7F7F", "s"),
    "sleep_phase": ("SleepPhase", "#A9A9A9", "D"),
    "renyi": ("Renyi", "#17BECF", "o"),
    "tvo": ("TVO", "#BCBD22", "D"),
}
# For all other estimators, cyclically; as the two lengths have no common divisor, only the 29th looks like the first.
OTHERS = ("#A65628", "#999933", "#117733", "#882255")
MARKS = ("v", "o", "s", "D", "^", "P", "X")
GRID: dict[str, Any] = {"color": "#888888", "alpha": 0.25, "linewidth": 0.6}


def style(estimator: str, names: list[str]) -> tuple[str, str, str]:
    """Label, colour and marker of one of several estimators. "stl(4)" looks like "stl" and is labelled "STL (K = 4)"; estimators without a fixed style get one by their position among `names`."""
    kind, bracket, setting = estimator.partition("(")
    if estimator in STYLES:
        return STYLES[estimator]
    if kind in STYLES:
        label, colour, marker = STYLES[kind]
        label = label.split(" (")[0]
    else:
        others = [name for name in names if name.partition("(")[0] not in STYLES]
        turn = others.index(estimator) if estimator in others else len(others)
        label, colour, marker = _classes().get(kind, kind), OTHERS[turn % len(OTHERS)], MARKS[turn % len(MARKS)]
    particles = setting.removesuffix(")")
    return f"{label} ({'K = ' if particles.isdigit() else ''}{setting}" if bracket else label, colour, marker


@functools.cache
def _classes() -> dict[str, str]:
    """Name of an estimator → name of its class; read from the source text, as figures don't need torch."""
    lines = (Path(__file__).parents[1] / "estimators" / "__init__.py").read_text(encoding="utf-8")
    return dict(re.findall(r"^from \.(\w+) import (\w+) as \2$", lines, re.M))
