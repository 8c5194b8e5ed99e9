"""Updates, which turn gradients or scores into steps and use that the guide is a normal."""

from .batch_and_match import BatchAndMatch as BatchAndMatch
from .natural_gradient import NaturalGradient as NaturalGradient
from .score_matching import ScoreMatching as ScoreMatching
