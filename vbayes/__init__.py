"""Variational Bayes on Pyro: any model and guide, every good estimator of the ELBO, and a laboratory for them.

The names below are loaded when they are first used, so that `import vbayes` costs nothing. They stand in
`__init__.pyi`, in the order of the way of the data.
"""

import warnings

import lazy_loader

__version__ = "0.1.0"

# Pyro imports tqdm's bars, which miss ipywidgets in a notebook; those here need none.
warnings.filterwarnings("ignore", "IProgress not found", module=r"tqdm\.auto")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
