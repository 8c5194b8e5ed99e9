"""Is an average over draws of a multimodal q inaccurate even for large L, and how high must the barriers between the modes be?"""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pandas as pd
import torch
from answers import above, every, head, measured, not_above
from torch import Tensor

import vbayes as vb

STEP, LEAPFROG_STEPS = 1.0, 5  # of Hamiltonian Monte Carlo, in standard deviations of a mode: well tuned for one mode
STUCK = 3  # times the error of as many independent draws: an effective sample size of one in nine draws


def centres(maxima: int) -> Tensor:
    """(M,) centres of the modes, 2 apart and with mean 0."""
    return 2.0 * (torch.arange(maxima) - (maxima - 1) / 2)


def width(barrier: float) -> float:
    """Standard deviation of modes 2 apart for which −ln q is `barrier` nats higher half-way between two modes, 1 from each, than at a mode."""
    return 1 / math.sqrt(2 * (barrier + math.log(2)))


def measure(*, maxima: list[int], barriers: list[float], draws: list[int], repeats: int, chains: int) -> pd.DataFrame:
    """Error of the average of z, whose expectation is 0, over L draws from a mixture: independent draws, and those of a Markov chain."""
    rows = []
    for count in maxima:
        for barrier in barriers if count > 1 else [max(barriers)]:
            scale = width(barrier)
            sd = math.sqrt(float(centres(count).square().mean()) + scale**2)
            where = torch.randint(count, (repeats, max(draws)))
            independent = centres(count)[where] + scale * torch.randn(repeats, max(draws))
            for name, z in (("independent", independent), ("chain", by_chains(count, max(draws), chains, scale))):
                for number in draws:
                    squares = z[:, :number].mean(1).square()
                    rmse = math.sqrt(float(squares.mean()))
                    se = float(squares.std()) / math.sqrt(len(squares)) / (2 * rmse) if len(squares) > 1 else math.nan
                    row = {"maxima": count, "barrier": barrier if count > 1 else 0.0, "draws": name, "L": number}
                    rows.append(row | {"error": rmse / sd, "error_se": se / sd, "law": 1 / math.sqrt(number)})
    return pd.DataFrame(rows)


def by_chains(maxima: int, length: int, chains: int, scale: float) -> Tensor:
    """(chains, length) draws by Hamiltonian Monte Carlo; each chain starts in a random mode."""
    where = centres(maxima)

    def look(z: Tensor) -> tuple[Tensor, Tensor]:
        """ln q up to a constant, and its derivative."""
        away = (where - z[:, None]) / scale
        each = -0.5 * away.square()
        return each.logsumexp(1), (each.softmax(1) * away).sum(1) / scale

    z = where[torch.randint(maxima, (chains,))]
    log_q, slope = look(z)
    found = []
    for _ in range(length):
        momentum = torch.randn(chains)
        place, end, there = z, slope, log_q
        energy = log_q - 0.5 * momentum.square()
        for _ in range(LEAPFROG_STEPS):
            momentum = momentum + 0.5 * STEP * scale * end
            place = place + STEP * scale * momentum
            there, end = look(place)
            momentum = momentum + 0.5 * STEP * scale * end
        taken = torch.rand(chains).log() < there - 0.5 * momentum.square() - energy
        z, log_q, slope = (torch.where(taken, a, b) for a, b in ((place, z), (there, log_q), (end, slope)))
        found.append(z)
    return torch.stack(found, 1)


def verdict(table: pd.DataFrame) -> str:
    """Compares the errors of independent draws, and those of chains at the largest L, with the law sd/√L."""
    independent, chain = (table[table.draws == name] for name in ("independent", "chain"))
    off = ((independent.error - independent.law) / independent.error_se).abs().max()
    last = chain[chain.L == chain.L.max()]
    many = last.maxima.max()
    own = last[last.maxima == many].sort_values("barrier")
    low, high = own.iloc[0], own.iloc[-1]
    early = chain[(chain.maxima == many) & (chain.L == chain.L.min())].set_index("barrier")
    useless = [r.barrier for r in own.itertuples() if r.error > early.error[r.barrier] / 2]
    checks = {
        f"a chain is stuck behind {high.barrier:g} nats": above(high.error, high.error_se, STUCK * high.law, sure=4),
        f"and not behind {low.barrier:g}": not_above(low.error, low.error_se, STUCK * low.law, within=low.law, sure=4),
    }
    alone = last[last.maxima == 1]
    if len(alone):
        checks["with one maximum it is not"] = every(each for r in alone.itertuples() for each in (not_above(r.error, r.error_se, STUCK * r.law, within=r.law, sure=4), above(r.error, r.error_se, r.law / STUCK, sure=1)))  # fmt: skip
    said = ", ".join(
        f"{measured(r.error / r.law, r.error_se / r.law, '.1f')} ({r.barrier:g} nats)" for r in own.itertuples()
    )
    one = f"; with one maximum {(alone.error / alone.law).iloc[0]:.1f} times" if len(alone) else ""
    behind = f"From {min(useless):g} nats on more draws do not halve its error. " if useless else ""
    before = early.loc[high.barrier]
    apart = f" (largest distance from that law {off:.1f} SE)" if math.isfinite(off) else ""
    return (
        f"{head(checks, {'independent draws err too': off >= 4 if math.isfinite(off) else None})}: a chain of Hamiltonian Monte Carlo between {many} maxima errs, after {chain.L.max():,} draws, by so many times what as many independent draws would, by the height of the barrier "
        f"between two: {said}{one}. {behind}Behind {high.barrier:g} nats that is {measured(high.error, high.error_se)} standard deviations of q, and was {measured(before.error, before.error_se)} after {before.L:g} draws. The maxima alone do no harm: independent draws err by sd/√L with any "
        f"number of them and any barrier{apart}."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    most = table[table.maxima == table.maxima.max()]
    for ax, (name, own) in zip(axes, most.groupby("draws", sort=False), strict=False):
        for number, (barrier, line) in enumerate(own.groupby("barrier")):
            ax.errorbar(line.L, line.error, yerr=line.error_se, marker="os^Dv"[number % 5], label=f"{barrier:g} nats", color=f"C{number}")  # fmt: skip
        law = own.drop_duplicates("L").sort_values("L")
        ax.plot(law.L, law.law, "k--", lw=1, label="1/√L")
        ax.set(xscale="log", yscale="log", xlabel="number of draws L", ylim=(0.6 * table.law.min(), 2))
        title = {"independent": "independent draws", "chain": "Markov chain (HMC)"}[name]
        ax.set_title(f"{table.maxima.max()} modes, {title}", loc="left", fontsize=11)
    axes[0].set_ylabel("RMS error of the average (in sd of q, ± 1 SE)")
    axes[1].legend(frameon=False, loc="lower left", fontsize=9, title="barrier between modes")
    last = table[(table.draws == "chain") & (table.L == table.L.max()) & (table.maxima > 1)]
    for number, (count, line) in enumerate(last.groupby("maxima")):
        label = f"{count} modes"
        axes[2].errorbar(line.barrier, line.error / line.law, yerr=line.error_se / line.law, marker="os^D"[number % 4], color=f"C{number + 5}", label=label)  # fmt: skip
    axes[2].axhline(STUCK, color="#444444", lw=1, ls="--", label="called stuck")
    axes[2].set(xscale="log", yscale="log", xlabel="barrier between modes (nats)", ylabel="RMS error / that of independent draws")  # fmt: skip
    axes[2].set_title(f"Markov chain after {table.L.max():,} draws", loc="left", fontsize=11)
    axes[2].legend(frameon=False)
    for ax in axes:
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    return drawing


experiment = vb.Experiment(
    question="Is an average over draws of a multimodal q inaccurate even for large L, and how high must the barriers between the modes be?",
    claim="If q is complicated, with many local maxima, (1/L) Σ f(z) may be bad even for large L (course, claim 10).",
    measure=measure,
    full={"maxima": [1, 2, 5, 10], "barriers": [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0], "draws": [10, 30, 100, 300, 1000, 3000, 10_000], "repeats": 4000, "chains": 1000},
    quick={"maxima": [1, 2, 5], "barriers": [0.5, 2.0, 8.0, 32.0], "draws": [10, 100, 1000], "repeats": 2000, "chains": 300},
    figure=figure,
    verdict=verdict,
    notes="f(z) = z. q is a mixture of Gaussians with means two apart, narrower for a higher barrier between two of them; a chain starts in one, each with equal probability, and its step size is their standard deviation.",
    sections=("draws", "maxima"),
)  # fmt: skip
