"""Does more than one draw per datum help in training, and for how small a minibatch?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from answers import above, every, head, measured, not_above, of_repeats
from pictures import split, trained

import vbayes as vb

LATENT = 8
CLAIMED = 100  # minibatch size of the claim
NOTHING = 0.5  # nats per digit that more draws may gain without counting


def measure(*, draws: list[int], batch_sizes: list[int], epochs: int, hidden: int, repeats: int) -> pd.DataFrame:
    """Held-out ELBO after training with L draws for each of M data, with the same number of steps as for L = 1, and with the same number of evaluations.

    `epochs` applies to minibatches of 100; other minibatch sizes get the same number of steps.
    """
    rows = []
    for seed in range(repeats * vb.default_seed(), repeats * (vb.default_seed() + 1)):
        x, new = split(seed=seed)
        steps = epochs * -(-len(x) // CLAIMED)
        for size in batch_sizes:
            for count in draws:
                for equal, length in (("steps", steps), ("evaluations", max(1, steps // count))):
                    if count == 1 and equal == "evaluations":
                        continue
                    fit = trained(x, latent=LATENT, hidden=hidden, steps=length, batch_size=size, seed=seed, estimator=vb.AnalyticKL(count))  # fmt: skip
                    elbo = vb.log_evidence(fit, new, method="elbo", num_particles=100, progress=False)
                    row = {"batch_size": size, "L": count, "equal": equal, "seed": seed, "steps": length}
                    rows.append(row | {"elbo_per_datum": elbo.value / elbo.rows})
    return pd.DataFrame(rows)


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """Gain of L draws over one with the same minibatches, in nats per datum, with standard errors over seeds, paired by seed."""
    rows = []
    for (size, count, equal), own in table[table.L > 1].groupby(["batch_size", "L", "equal"]):
        one = table[(table.L == 1) & (table.batch_size == size)].set_index("seed").elbo_per_datum
        gain = own.set_index("seed").elbo_per_datum - one
        mean, se = of_repeats(gain)
        rows.append({"batch_size": size, "L": count, "equal": equal, "gain": mean, "se": se, "repeats": len(gain)})
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> str:
    """The claim is about minibatches of 100 (or the nearest size); other sizes show its limits."""
    found = gains(table)
    claimed = min(set(found.batch_size), key=lambda size: abs(size - CLAIMED))
    checks, bounds, said, pays = {}, {}, [], []
    for size, own in found.groupby("batch_size"):
        same, more = (own[own.equal == equal] for equal in ("evaluations", "steps"))
        nothing = every(
            not_above(r.gain, r.se, within=NOTHING, of=len(same), repeats=r.repeats) for r in same.itertuples()
        )
        free = every(above(NOTHING - r.gain, r.se, repeats=r.repeats) for r in more.itertuples())
        if size == claimed:
            checks["more draws gain nothing at the same cost"] = nothing
            bounds["nor at more cost"] = free
        else:
            bounds[f"nor with minibatches of {size}"] = every([nothing, free])
        if any(above(r.gain, r.se, of=len(same), repeats=r.repeats) for r in same.itertuples()):
            pays.append(str(size))
        values = (", ".join(f"L = {r.L}: {measured(r.gain, r.se, '+.2f')}" for r in part.itertuples()) for part in (same, more))  # fmt: skip
        said.append("with minibatches of {}, {}, and {}".format(size, *values))
    where = f"At the same cost more draws pay with minibatches of {', '.join(pays)}." if pays else "At the same cost more draws pay nowhere."  # fmt: skip
    return (
        f"{head(checks, bounds)}: against L = 1 more draws change the held-out ELBO a digit, in nats, for the same number of evaluations, and for the same number of steps at L times "
        f"the cost: {'; '.join(said)}. {where}"
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    found = gains(table)
    drawing, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    titles = {"evaluations": "Equal number of likelihood evaluations", "steps": "Equal number of steps (L times the cost)"}  # fmt: skip
    for ax, (equal, title) in zip(axes, titles.items(), strict=True):
        for number, (count, own) in enumerate(found[found.equal == equal].groupby("L")):
            ax.errorbar(
                own.batch_size,
                own.gain,
                yerr=own.se,
                marker="osD^v"[number % 5],
                color=f"C{number}",
                label=f"L = {count}",
            )
        ax.axhline(0.0, color="black", lw=1)
        ax.set_xscale("log")
        ax.set_xticks(sorted(set(found.batch_size)), [str(size) for size in sorted(set(found.batch_size))])
        ax.minorticks_off()
        ax.margins(x=0.15)
        ax.set_xlabel("minibatch size M")
        ax.set_title(title, loc="left", fontsize=11)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("held-out ELBO less that of L = 1\n(nats per digit, ± 1 SE)")
    axes[1].legend(frameon=False)
    return drawing


experiment = vb.Experiment(
    question="Does more than one draw per datum help in training, and for how small a minibatch?",
    claim="L = 1 draw for each datum suffices with minibatches of about 100 (Kingma & Welling 2013, arXiv:1312.6114, section 2.3; course, claim 13).",
    measure=measure,
    full={"draws": [1, 2, 5, 10], "batch_sizes": [3, 10, 30, 100, 300], "epochs": 300, "hidden": 256, "repeats": 5},
    quick={"draws": [1, 4], "batch_sizes": [3, 100], "epochs": 60, "hidden": 64, "repeats": 3},
    figure=figure,
    verdict=verdict,
    notes="`equal`: what is the same as for L = 1 with the same minibatches. All trainings with L = 1 take the same number of steps, that of `epochs` with minibatches of 100. Gains below half a nat don't count.",
    sections=("equal",),
)
