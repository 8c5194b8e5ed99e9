"""Conjugate models with a factored q, for `vb.cavi`, one file each."""

from .gaussian import FactoredGaussian as FactoredGaussian
from .mixture import GaussianMixture as GaussianMixture
from .normal_gamma import NormalGamma as NormalGamma
