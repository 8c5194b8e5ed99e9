"""A pair as a pure tensor program: captured, then replicated, compiled, looped."""

from .capture import Program as Program
from .capture import eager as eager
from .capture import faithful as faithful
from .capture import stage as stage
from .compiled import Compiled as Compiled
from .noise import FreshNoise as FreshNoise
from .noise import Noise as Noise
from .noise import Recorder as Recorder
from .noise import draw_noise as draw_noise
from .replicate import Replicated as Replicated
from .replicate import replicate as replicate
