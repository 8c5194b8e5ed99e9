"""What turns a gradient, or the scores at draws, into a step: updates that know what a guide's parameters mean."""

from .batch_and_match import BatchAndMatch as BatchAndMatch
from .natural_gradient import NaturalGradient as NaturalGradient
from .score_matching import ScoreMatching as ScoreMatching
