"""Which latents are called moved: the largest of many moves must be more than chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vbayes.diagnostics.moved import ASIDE, SURE, aside
from vbayes.summaries.joint import LEVEL


@pytest.mark.parametrize("elements", [1, 10, 1000])
def test_noise_of_the_weights_is_seldom_taken_for_a_move(elements):
    """Of 1000 draws worth 50, a latent by itself is beyond two standard errors and the margin in one case of a hundred, and so one of a thousand latents always was."""
    rng, se, cases = np.random.default_rng(0), 0.14, 400
    said = by_itself = 0
    for _ in range(cases):
        table = pd.DataFrame({"moved": se * rng.standard_normal(elements), "sd_ratio": 1 + se / 2**0.5 * rng.standard_normal(elements), "se": se})  # fmt: skip
        said += len(aside(table)) > 0
        by_itself += len(aside(table, SURE)) > 0
    assert said / cases < LEVEL + 4 * (LEVEL / cases) ** 0.5
    assert elements < 1000 or by_itself == cases
    clear = pd.DataFrame({"moved": [ASIDE + 5 * se] + [0.0] * (elements - 1), "sd_ratio": 1.0, "se": se})
    assert list(aside(clear).index) == [0]
