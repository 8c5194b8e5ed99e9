"""Gradient estimators, one file each: the formula, the claims, and a few lines of maths.

A line here registers an estimator with the command line, the contract tests, the laboratory and the table of the reference, under the
name of its file and in the order of these lines.
"""

# ruff: isort: skip_file

from __future__ import annotations

from .base import Estimator as Estimator
from .trace import Trace as Trace
from .pathwise import Pathwise as Pathwise
from .analytic_kl import AnalyticKL as AnalyticKL
from .beta import Beta as Beta
from .stl import STL as STL
from .path_gradient import PathGradient as PathGradient
from .adaptive_stl import AdaptiveSTL as AdaptiveSTL
from .quadratic import Quadratic as Quadratic
from .fitted_quadratic import FittedQuadratic as FittedQuadratic
from .stratified import Stratified as Stratified
from .score import Score as Score
from .baselined import Baselined as Baselined
from .rloo import RLOO as RLOO
from .vargrad import VarGrad as VarGrad
from .rao_blackwell import RaoBlackwell as RaoBlackwell
from .measure_valued import MeasureValued as MeasureValued
from .arm import ARM as ARM
from .disarm import DisARM as DisARM
from .rebar import REBAR as REBAR
from .relax import RELAX as RELAX
from .gumbel_softmax import GumbelSoftmax as GumbelSoftmax
from .enumerated import Enumerated as Enumerated
from .iwae import IWAE as IWAE
from .dreg import DReG as DReG
from .vimco import VIMCO as VIMCO
from .ovis import OVIS as OVIS
from .miwae import MIWAE as MIWAE
from .ciwae import CIWAE as CIWAE
from .piwae import PIWAE as PIWAE
from .wake_sleep import WakeSleep as WakeSleep
from .sleep_phase import SleepPhase as SleepPhase
from .renyi import Renyi as Renyi
from .tvo import TVO as TVO
from .dais import DAIS as DAIS
from .learned_dais import LearnedDAIS as LearnedDAIS
from .fivo import FIVO as FIVO
from .cubo import CUBO as CUBO
from .fisher import Fisher as Fisher
from .tail_adaptive import TailAdaptive as TailAdaptive

from .followed import followed as followed
from .registry import ESTIMATORS as ESTIMATORS
from .registry import name_of as name_of
from .registry import register as register
from .registry import resolve as resolve

register(list(vars().values()))
