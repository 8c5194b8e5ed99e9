"""Sharpness of pictures of which it is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import vbayes as vb
from experiments.course.sharpness import laplacian_energy, spectrum


def test_a_checkerboard_and_a_ramp():
    """Inside a checkerboard of ±1 the Laplacian is ∓8; inside a ramp it is 0."""
    board = np.indices((9, 9)).sum(0) % 2 * 2.0 - 1
    inner = np.pad(np.full((7, 7), 64.0), 1, constant_values=36.0)  # at a border one neighbour is the pixel itself
    inner[0, 0] = inner[0, -1] = inner[-1, 0] = inner[-1, -1] = 16.0
    assert laplacian_energy(board[None])[0] == pytest.approx(inner.mean() / board.var())
    ramp = np.tile(np.arange(9.0), (9, 1))
    assert laplacian_energy(ramp[None])[0] == pytest.approx(2 / 9 / ramp.var())
    assert laplacian_energy(np.ones((2, 4, 4))).tolist() == [0.0, 0.0]


def test_contrast_does_not_count_and_blur_does():
    pictures = np.random.default_rng(0).random((5, 16, 16))
    sharp = laplacian_energy(pictures)
    np.testing.assert_allclose(laplacian_energy(0.1 * pictures + 3), sharp)
    assert (laplacian_energy(np.stack([gaussian_filter(p, 1.0) for p in pictures])) < sharp / 3).all()


def test_a_wave_is_in_its_ring_and_white_noise_in_all():
    columns = np.cos(2 * np.pi * 3 * np.arange(16) / 16)
    frequency, power = spectrum(np.tile(columns, (2, 16, 1)))
    assert power[2] == pytest.approx(1.0) and frequency[2] == pytest.approx(3 / 16)
    _, noise = spectrum(np.random.default_rng(0).normal(size=(4000, 16, 16)))
    rings = np.hypot(np.fft.fftfreq(16)[:, None], np.fft.fftfreq(16)[None, :])
    counts = [((rings >= (k + 0.5) / 16) & (rings < (k + 1.5) / 16)).sum() for k in range(8)]
    np.testing.assert_allclose(noise, np.array(counts) / 255, rtol=0.03)


def test_bad_pictures():
    with pytest.raises(vb.errors.BadInput, match="Wanted: \\(N, height, width\\)"):
        laplacian_energy(np.zeros((4, 64)))
