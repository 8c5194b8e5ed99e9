"""What more particles do to the signal of the guide's gradient, in words."""

from __future__ import annotations

import re

import vbayes as vb
from vbayes.laboratory.particles_signal import particles_signal

RATIO = r"(\d[\d.e-]*) ± [\d.e-]+"


def signals(estimator) -> tuple[float, float, str]:
    """With many particles, with few, and all of the words."""
    pair, data = vb.pairs.vae(64, 16, 4, seed=0), vb.data.digits()
    fit = vb.fit(pair, data, estimator, steps=4, batch_size=50, seed=0, progress=False)
    words = particles_signal(fit, seed=1)
    found = re.search(f"signal-to-noise ratio of {RATIO}, with \\d+ of {RATIO}", words)
    return (float(found[1]), float(found[2]), words) if found else (0.0, 0.0, words)


def test_iwae_loses_the_guides_signal_as_one_over_the_root():
    """Rainforth et al. 2018, theorem 1: by a factor of 8 with 64 particles."""
    many, few, words = signals("iwae(64)")
    assert 4 < few / many < 16
    assert (
        "reduce the guide's signal-to-noise ratio" in words and "Use dreg(64)" in words and "the model's has" in words
    )


def test_particles_that_are_only_averaged_are_not_spoken_of():
    assert signals("stl(16)")[2] == "" and signals("iwae(1)")[2] == ""
