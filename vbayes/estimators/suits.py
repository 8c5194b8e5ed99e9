"""Whether an estimator can work on a pair."""

from __future__ import annotations

from pyro.infer import ELBO

from ..data.dataset import Batch
from ..errors import Unsuitable
from ..pair.pair import Pair
from ..validation import values_unchecked
from .base import Estimator


def suits(pair: Pair, batch: Batch, method: ELBO) -> bool:
    """Whether an estimator can work on a pair; one of Pyro's can."""
    try:
        check_suits(pair, batch, method)
    except Unsuitable:
        return False
    return True


def check_suits(pair: Pair, batch: Batch, method: ELBO) -> None:
    """Raises `Unsuitable` where `suits` is false."""
    if isinstance(method, Estimator):
        with pair.copy().look(), values_unchecked():
            method.draw(pair, batch)
