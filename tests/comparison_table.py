"""A comparison without measuring one: known numbers, in the columns of the real one."""

from __future__ import annotations

import vbayes as vb
from vbayes.laboratory.comparison import Point

VARIANCE = {
    "score": (9e6, 8e6, 7e6),
    "pathwise": (200.0, 200.0, 200.0),
    "analytic_kl": (100.0, 120.0, 140.0),
    "stl": (110.0, 50.0, 20.0),
}
MS = {"score": 2.0, "pathwise": 2.0, "analytic_kl": 2.0, "stl": 3.0}
POINTS = ("start", "middle", "end")


def made(pair: str = "vae", **changes) -> vb.Comparison:
    """Its rows can be changed by column: `made(bias_z=9.0)`."""
    rows = []
    for i, at in enumerate(POINTS):
        for name, variances in VARIANCE.items():
            for group, share in {"guide location": 0.3, "guide scale": 0.3, "model": 0.4, "all": 1.0}.items():
                variance = variances[i] * share
                row = {
                    "at": at,
                    "estimator": name,
                    "group": group,
                    "mean_norm": 5.0,
                    "bias_z": 0.7,
                    "variance": variance,
                }
                row |= {"variance_se": 0.01 * variance, "snr": 5.0 / variance**0.5, "ms_per_gradient": MS[name]}
                row |= {"variance_time": variance * MS[name], "mean_norm_se": 0.1, "snr_se": 0.01, "ms_se": 0.02}
                row |= {"variance_time_se": 0.015 * variance * MS[name], "bias_resolution": 0.5, "num_particles": 1}
                row |= {"bound": "ELBO", "oracle": "analytic_kl, 10000 replicas", "dsnr": 0.5, "dsnr_se": 0.01}
                row |= {"bias": 0.1, "bias_se": 0.1, "along": [1.0, 2.0], "truth": 5.0}
                row["variances_without"] = [variance * (1 + 0.0002 * (b % 7 - 3) * (1 + i)) for b in range(50)]
                rows.append(row | changes)
    points = tuple(Point(at, 100 * i, -40.0 + 10 * i) for i, at in enumerate(POINTS))
    return vb.Comparison(
        pair, "digits", 100, 1000, 0, "analytic_kl, 10000 replicas", tuple(VARIANCE), tuple(rows), points
    )
