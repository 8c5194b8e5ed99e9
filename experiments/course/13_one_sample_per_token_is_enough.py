"""With minibatches of 100, does a second draw for each datum buy anything in training?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from answers import every, head, not_above
from pictures import split, trained

import vbayes as vb

LATENT = 8


def measure(*, draws: list[int], epochs: int, hidden: int, repeats: int) -> pd.DataFrame:
    """ELBO of data held out after training with L draws for each datum: for as many steps as L = 1 has, and for as many evaluations."""
    rows = []
    for seed in range(repeats * vb.default_seed(), repeats * (vb.default_seed() + 1)):
        x, new = split(seed=seed)
        for count in draws:
            for equal, passes in (("steps", epochs), ("evaluations", max(1, epochs // count))):
                if count == 1 and equal == "evaluations":
                    continue
                fit = trained(x, latent=LATENT, hidden=hidden, epochs=passes, seed=seed, estimator=vb.AnalyticKL(count))
                elbo = vb.log_evidence(fit, new, method="elbo", num_particles=100, progress=False)
                rows.append(
                    {
                        "L": count,
                        "equal": equal,
                        "seed": seed,
                        "epochs": passes,
                        "elbo_per_datum": elbo.value / elbo.rows,
                    }
                )
    return pd.DataFrame(rows)


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """What L draws gain on one, in nats a datum, with errors over the seeds, which both had."""
    one = table[table.L == 1].set_index("seed").elbo_per_datum
    rows = []
    for (count, equal), own in table[table.L > 1].groupby(["L", "equal"]):
        gain = own.set_index("seed").elbo_per_datum - one
        rows.append({"L": count, "equal": equal, "gain": gain.mean(), "se": gain.std() / len(gain) ** 0.5})
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> str:
    found = gains(table)
    same = found[found.equal == "evaluations"]
    more = found[found.equal == "steps"]
    checks = {"more draws gain nothing at the same cost": every(map(not_above, same.gain, same.se))}
    free = {"nor at more cost": every(not_above(r.gain, r.se, 0.5) for r in more.itertuples())}

    def said(rows: pd.DataFrame) -> str:
        return ", ".join(f"L = {r.L}: {r.gain:+.2f} ± {r.se:.2f}" for r in rows.itertuples())

    return (
        f"{head(checks, free)}: for the same number of evaluations more draws change the held-out ELBO a digit by {said(same)} nats against L = 1; "
        f"for the same number of steps, at L times the cost, by {said(more)}."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
    for (equal, own), colour in zip(gains(table).groupby("equal"), ("#D55E00", "#0072B2"), strict=True):
        ax.errorbar(own.L, own.gain, yerr=own.se, marker="o", color=colour, label=f"equal {equal}")
    ax.axhline(0.0, color="black", lw=1)
    ax.set_xticks(sorted(set(table.L)))
    ax.set_xlabel("draws L for each datum")
    ax.set_ylabel("gain on L = 1 (nats a digit, ± 1 SE)")
    ax.set_title("Held-out ELBO, minibatches of 100", loc="left", fontsize=11)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return drawing


experiment = vb.Experiment(
    question="With minibatches of 100, does a second draw for each datum buy anything in training?",
    claim="L = 1 draw for each datum suffices with minibatches of about 100 (Kingma & Welling 2013, arXiv:1312.6114, section 2.3; course, claim 13).",
    measure=measure,
    full={"draws": [1, 2, 5, 10], "epochs": 300, "hidden": 256, "repeats": 5},
    quick={"draws": [1, 4], "epochs": 60, "hidden": 64, "repeats": 3},
    figure=figure,
    verdict=verdict,
    notes="`equal`: what the training has in common with that of L = 1. 'Free' draws would be worth up to half a nat.",
    sections=("equal",),
)
