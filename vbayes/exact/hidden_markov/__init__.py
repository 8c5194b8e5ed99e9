"""Hidden Markov models: a chain of T states out of S, each seen through an emission, for each row by itself."""

from .em import Expected as Expected
from .em import Learnt as Learnt
from .em import baum_welch as baum_welch
from .em import by_factored as by_factored
from .em import by_posterior as by_posterior
from .emissions import CategoricalEmission as CategoricalEmission
from .emissions import Emission as Emission
from .emissions import GaussianEmission as GaussianEmission
from .factored import best_factored as best_factored
from .factored import elbo as elbo
from .messages import backward as backward
from .messages import forward as forward
from .messages import log_evidence as log_evidence
from .messages import marginals as marginals
from .messages import pairwise as pairwise
from .model import HiddenMarkov as HiddenMarkov
from .paths import sample_posterior as sample_posterior
from .paths import sample_prior as sample_prior
from .paths import viterbi as viterbi
from .recursion import log_evidence_by_recursion as log_evidence_by_recursion
from .starts import random_start as random_start
