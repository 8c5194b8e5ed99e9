"""The eight schools: the smallest hierarchical data set, and the most studied."""

from __future__ import annotations

import torch

from ..arguments.takes import takes
from .dataset import Dataset

# Gelman et al. 2013, table 5.2: estimated effect of coaching on the SAT-V score in schools A to H, in points, and the
# standard error of each estimate.
EFFECT = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
STANDARD_ERROR = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)


@takes()
def eight_schools() -> Dataset:
    """Effect of coaching on test scores in 8 schools, with standard errors; bundled.

    Columns: `y` float32 (8,), the estimated effect in points of the SAT-V score, and `sigma` float32 (8,), its
    standard error, taken as known.

    References:
        Rubin 1981, Estimation in parallel randomized experiments, Journal of Educational Statistics 6(4).
        Gelman et al. 2013, Bayesian Data Analysis (3rd edition), section 5.5, table 5.2.
    """
    return Dataset(
        {"y": torch.tensor(EFFECT), "sigma": torch.tensor(STANDARD_ERROR)},
        name="eight_schools",
        source="Rubin 1981; Gelman et al. 2013, Bayesian Data Analysis, section 5.5",
        licence="none stated (a published table of 16 numbers)",
    )
