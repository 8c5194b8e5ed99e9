"""Measures of how sharp pictures are."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import laplace

from vbayes.errors import BadInput


def laplacian_energy(pictures: np.ndarray) -> np.ndarray:
    """The mean square of the Laplacian divided by the variance of the pixels: large for edges, small for smooth pictures, and independent of contrast.

    Args:
        pictures: (N, height, width).

    Returns:
        (N,) dimensionless; 0 for a uniform picture.

    References:
        Subbarao & Tyan 1998, Selecting the optimal focus measure for autofocusing, doi:10.1109/34.709612.
    """
    _check(pictures)
    edges = np.stack([laplace(picture.astype(float), mode="nearest") for picture in pictures])
    energy, spread = (edges**2).mean((1, 2)), pictures.astype(float).var((1, 2))
    return np.divide(energy, spread, out=np.zeros_like(energy), where=spread > 0)


def spectrum(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean power of pictures by spatial frequency, averaged over directions, as a fraction of their total power without the mean.

    Args:
        pictures: (N, height, width).

    Returns:
        Frequencies in cycles per pixel, at the middles of rings one cycle per picture wide, up to ½; and the fraction of the power in each ring. Together with
        the corners beyond ½ the fractions add up to 1.

    References:
        Field 1987, Relations between the statistics of natural images and the response properties of cortical cells, doi:10.1364/JOSAA.4.002379.
    """
    _check(pictures)
    height, width = pictures.shape[1:]
    away = pictures - pictures.mean((1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(away)) ** 2).mean(0)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    rings = min(height, width) // 2
    edges = (np.arange(rings + 1) + 0.5) / min(height, width)
    parts = np.array(
        [power[(radius >= low) & (radius < high)].sum() for low, high in zip(edges, edges[1:], strict=False)]
    )
    return (edges[1:] + edges[:-1]) / 2, parts / max(power.sum(), np.finfo(float).tiny)


def _check(pictures: np.ndarray) -> None:
    if pictures.ndim != 3 or min(pictures.shape) < 1 or min(pictures.shape[1:]) < 3:
        raise BadInput(f"pictures have shape {pictures.shape}. Wanted: (N, height, width), of 3×3 pixels at least.")
