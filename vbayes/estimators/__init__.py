"""One file per estimator: its formula, its claims, and a few lines of maths."""

from __future__ import annotations

from dataclasses import MISSING, fields

from pyro.infer import ELBO

from ..errors import BadInput, UnknownName
from .adaptive_stl import AdaptiveSTL as AdaptiveSTL
from .analytic_kl import AnalyticKL as AnalyticKL
from .base import Estimator as Estimator
from .baselined import Baselined as Baselined
from .beta import Beta as Beta
from .ciwae import CIWAE as CIWAE
from .disarm import DisARM as DisARM
from .dreg import DReG as DReG
from .enumerated import Enumerated as Enumerated
from .gumbel_softmax import GumbelSoftmax as GumbelSoftmax
from .iwae import IWAE as IWAE
from .measure_valued import MeasureValued as MeasureValued
from .miwae import MIWAE as MIWAE
from .ovis import OVIS as OVIS
from .pathwise import Pathwise as Pathwise
from .piwae import PIWAE as PIWAE
from .rao_blackwell import RaoBlackwell as RaoBlackwell
from .rebar import REBAR as REBAR
from .renyi import Renyi as Renyi
from .rloo import RLOO as RLOO
from .score import Score as Score
from .sleep_phase import SleepPhase as SleepPhase
from .stl import STL as STL
from .trace import Trace as Trace
from .tvo import TVO as TVO
from .vargrad import VarGrad as VarGrad
from .vimco import VIMCO as VIMCO
from .wake_sleep import WakeSleep as WakeSleep

ESTIMATORS: dict[str, type[Estimator]] = {
    "trace": Trace,
    "pathwise": Pathwise,
    "analytic_kl": AnalyticKL,
    "beta": Beta,
    "stl": STL,
    "adaptive_stl": AdaptiveSTL,
    "score": Score,
    "baselined": Baselined,
    "rloo": RLOO,
    "vargrad": VarGrad,
    "rao_blackwell": RaoBlackwell,
    "measure_valued": MeasureValued,
    "disarm": DisARM,
    "rebar": REBAR,
    "gumbel_softmax": GumbelSoftmax,
    "enumerated": Enumerated,
    "iwae": IWAE,
    "dreg": DReG,
    "vimco": VIMCO,
    "ovis": OVIS,
    "miwae": MIWAE,
    "ciwae": CIWAE,
    "piwae": PIWAE,
    "wake_sleep": WakeSleep,
    "sleep_phase": SleepPhase,
    "renyi": Renyi,
    "tvo": TVO,
}
"""Name on the command line → class."""


def resolve(estimator: str | type[ELBO] | ELBO) -> ELBO:
    """An estimator from its name, its class, or itself; any other `pyro.infer.ELBO` passes through.

    Raises:
        UnknownName: No estimator has this name.
        BadInput: Neither a name nor an estimator.
    """
    if isinstance(estimator, str):
        if estimator not in ESTIMATORS:
            raise UnknownName("estimator", estimator, ESTIMATORS)
        return ESTIMATORS[estimator]()
    if isinstance(estimator, type) and issubclass(estimator, ELBO):
        return estimator()
    if isinstance(estimator, ELBO):
        return estimator
    raise BadInput(
        f"{estimator!r} is no estimator. Wanted: a name ({', '.join(ESTIMATORS)}), or an object such as vb.STL() or "
        "pyro.infer.Trace_ELBO()."
    )


def name_of(estimator: ELBO) -> str:
    """What tables call it: its registered name or class, with what is not its default."""
    kind: type = type(estimator)
    name = next((name for name, known in ESTIMATORS.items() if known is kind), kind.__name__)
    if not isinstance(estimator, Estimator):
        k = getattr(estimator, "num_particles", 1)
        return name if k == 1 else f"{name}({k})"
    changed = {
        f.name: getattr(estimator, f.name)
        for f in fields(estimator)
        if f.repr and (f.default is MISSING or getattr(estimator, f.name) != f.default)
    }
    if not changed:
        return name
    (first, value), *more = changed.items()
    if first == "num_particles" and not more:
        return f"{name}({value})"
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in changed.items())})"
