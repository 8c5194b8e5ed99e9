"""Variational Bayes on Pyro: any model and guide, many estimators of the ELBO, and tools to compare them.

Names are loaded on first use, so `import vbayes` is fast. They are listed in `__init__.pyi`, in the order in
which data flow through the package.
"""

import warnings

import lazy_loader

__version__ = "0.1.0"

# Pyro imports tqdm's bars, which miss ipywidgets in a notebook; those here need none.
warnings.filterwarnings("ignore", "IProgress not found", module=r"tqdm\.auto")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
