"""Conjugate models under a factored q, for `vb.cavi`: one file a model. Tensors in, tensors out."""

from .gaussian import FactoredGaussian as FactoredGaussian
from .mixture import GaussianMixture as GaussianMixture
from .normal_gamma import NormalGamma as NormalGamma
