"""The course's experiments on autoencoders: each fails where nothing was learnt, and draws what it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

import vbayes as vb
from vbayes.experiment import load

COURSE = Path(__file__).parents[2] / "experiments" / "course"
TOO_LITTLE: dict[str, dict[str, Any]] = {
    "mse_is_gaussian_likelihood": {"pairs": ["linear"], "scales": [0.3], "steps": 4, "looks": 1},
    "pca_is_a_linear_autoencoder": {"hidden": [5, 64], "seeds": 1, "steps": 4},
    "bottleneck_beats_pca": {"hidden": [2], "splits": 1, "epochs": 1},
    "sparse_codes": {"penalties": [1e-3], "hidden": 16, "epochs": 1},
    "linear_vae_reaches_the_evidence": {"latent": 2, "steps": 4, "looks": 1, "seeds": 1},
}


@pytest.mark.parametrize("name", TOO_LITTLE)
def test_too_little_training_fails(name):
    with load(COURSE / f"{name}.py") as experiment, vb.seeded(0):
        assert set(experiment.quick) <= set(experiment.full) and experiment.question.endswith("?")
        table = experiment.measure(**{**experiment.full, **TOO_LITTLE[name]})
        assert experiment.verdict(table).startswith("Fails here")
        assert len(experiment.shown(table)) >= 1
        drawing = experiment.figure(table)
        drawing.canvas.draw()
        plt.close(drawing)
