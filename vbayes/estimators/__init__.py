"""One file per estimator: its formula, its claims, and a few lines of maths."""

from ..estimator import Estimator as Estimator
from .analytic_kl import AnalyticKL as AnalyticKL
from .pathwise import Pathwise as Pathwise
from .rloo import RLOO as RLOO
from .score import Score as Score
from .stl import STL as STL
from .trace import Trace as Trace

ESTIMATORS: dict[str, type[Estimator]] = {
    "trace": Trace,
    "score": Score,
    "rloo": RLOO,
    "pathwise": Pathwise,
    "analytic_kl": AnalyticKL,
    "stl": STL,
}
"""Name on the command line → class."""
