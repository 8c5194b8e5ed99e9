"""Headings for columns of tables in the terminal and on pages; CSV and JSON files keep the names."""

from __future__ import annotations

NAMED = {
    "bias_z": "bias z",
    "forward_kl": "KL(p ‖ q) (nats)",
    "k_hat": "k̂",
    "log_evidence": "log p(x) (nats)",
    "log_p": "log p(x) (nats)",
    "log_p_per_datum": "log p(x) per datum (nats)",
    "mean_norm": "norm of mean",
    "minus_log_p": "−log p(x) (nats)",
    "num_particles": "particles",
    "variance_time": "variance × ms",
}
ABBREVIATIONS = {"dsnr": "DSNR", "elbo": "ELBO", "kl": "KL", "pca": "PCA", "se": "SE", "snr": "SNR"}
IN_NATS = {"elbo", "kl"}


def heading(name: str) -> str:
    """The name of a column in words, with the unit of quantities in nats: "SE of ELBO per datum (nats)" for `elbo_per_datum_se`."""
    if name in NAMED:
        return NAMED[name]
    if name.endswith("_se"):
        return f"SE of {heading(name.removesuffix('_se'))}"
    words = name.split("_")
    unit = " (nats)" if IN_NATS & {*words} else ""
    return " ".join(ABBREVIATIONS.get(word, word) for word in words) + unit
