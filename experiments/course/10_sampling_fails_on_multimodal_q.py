"""Is an average over draws of a q with many maxima bad even for large L?"""

from __future__ import annotations

import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
import torch
from answers import above, every, head, not_above
from pyro.infer import HMC, MCMC
from torch import Tensor

import vbayes as vb

WIDTH = 0.1  # of each maximum; they stand 2 apart
STEP, LEAPFROG_STEPS = 0.1, 5  # of Hamiltonian Monte Carlo: good for one maximum
FAIR = 3.0  # times the error of independent draws at most, and a third of it at least: a chain that moves


def centres(maxima: int) -> Tensor:
    """(M,) with mean 0, 2 apart."""
    return 2.0 * (torch.arange(maxima) - (maxima - 1) / 2)


def potential(maxima: int) -> Callable[[dict[str, Tensor]], Tensor]:
    """−ln q(z) but for a constant."""
    where = centres(maxima)
    return lambda latents: -(-0.5 * ((latents["z"] - where) / WIDTH).square()).logsumexp(-1)


def measure(*, maxima: list[int], draws: list[int], repeats: int, chains: int) -> pd.DataFrame:
    """Error of the average of z, whose truth is 0, over L draws of a mixture: drawn independently, and by a chain."""
    rows = []
    for count in maxima:
        sd = math.sqrt(float(centres(count).square().mean()) + WIDTH**2)
        where = torch.randint(count, (repeats, max(draws)))
        independent = centres(count)[where] + WIDTH * torch.randn(repeats, max(draws))
        for name, z in (("independent", independent), ("chain", by_chains(count, max(draws), chains))):
            for number in draws:
                squares = z[:, :number].mean(1).square()
                rmse = math.sqrt(float(squares.mean()))
                se = float(squares.std()) / math.sqrt(len(squares)) / (2 * rmse)
                rows.append(
                    {
                        "maxima": count,
                        "draws": name,
                        "L": number,
                        "error": rmse / sd,
                        "error_se": se / sd,
                        "law": 1 / math.sqrt(number),
                    }
                )
    return pd.DataFrame(rows)


def by_chains(maxima: int, length: int, chains: int) -> Tensor:
    """(chains, length) of Hamiltonian Monte Carlo, each begun in a maximum of its own choice."""
    found = []
    for start in centres(maxima)[torch.randint(maxima, (chains,))]:
        kernel = HMC(
            potential_fn=potential(maxima),
            step_size=STEP,
            num_steps=LEAPFROG_STEPS,
            adapt_step_size=False,
            adapt_mass_matrix=False,
        )
        run = MCMC(
            kernel, num_samples=length, warmup_steps=0, initial_params={"z": start[None].clone()}, disable_progbar=True
        )
        run.run()
        found.append(run.get_samples()["z"][:, 0])
    return torch.stack(found)


def verdict(table: pd.DataFrame) -> str:
    """Independent draws by the law sd/√L, whatever the maxima; chains against the same law at the largest L."""
    independent, chain = (table[table.draws == name] for name in ("independent", "chain"))
    off = ((independent.error - independent.law) / independent.error_se).abs().max()
    last = chain[chain.L == chain.L.max()].set_index("maxima")
    many = last.index.max()
    stuck = above(last.error[many], last.error_se[many], FAIR * last.law[many], sure=4)
    alone, alone_se = (
        one[1] if 1 in last.index else float("nan") for one in (last.error / last.law, last.error_se / last.law)
    )
    moves = every([not_above(alone, alone_se, FAIR, sure=4), above(alone, alone_se, 1 / FAIR, sure=1)])
    first = head(
        {"a chain is stuck": stuck, "with one maximum it is not": moves}, {"independent draws err too": off >= 4}
    )
    return (
        f"{first}: a chain of Hamiltonian Monte Carlo that must pass between {many} maxima still errs by {last.error[many]:.2f} ± {last.error_se[many]:.2f} standard "
        f"deviations of q after {chain.L.max()} draws, {last.error[many] / last.law[many]:.0f} times what as many independent draws would (with one maximum "
        f"{alone:.1f} times). The number of maxima alone does no harm: independent draws err by sd/√L with any number of them (largest distance from "
        f"that law {off:.1f} SE)."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for ax, (name, own) in zip(axes, table.groupby("draws", sort=False), strict=True):
        for number, (count, line) in enumerate(own.groupby("maxima")):
            label = f"{count} maxim{'um' if count == 1 else 'a'}"
            ax.errorbar(
                line.L, line.error, yerr=line.error_se, marker="os^D"[number % 4], label=label, color=f"C{number}"
            )
        law = own.drop_duplicates("L").sort_values("L")
        ax.plot(law.L, law.law, "k--", lw=1, label="1/√L")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("draws L")
        ax.set_title({"independent": "Independent draws", "chain": "A chain (HMC)"}[name], loc="left", fontsize=11)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("error of the average (sd of q, ± 1 SE)")
    axes[1].legend(frameon=False, loc="lower left")
    return drawing


experiment = vb.Experiment(
    question="Is an average over draws of a q with many maxima bad even for large L?",
    claim="If q is complicated, with many local maxima, (1/L) Σ f(z) may be bad even for large L (course, claim 10).",
    measure=measure,
    full={"maxima": [1, 2, 5, 10], "draws": [10, 30, 100, 300, 1000, 3000], "repeats": 4000, "chains": 40},
    quick={"maxima": [1, 5], "draws": [10, 30, 100, 300], "repeats": 2000, "chains": 8},
    figure=figure,
    verdict=verdict,
    notes="f(z) = z. q is a mixture of narrow Gaussians two apart; a chain starts in one of them, each with the same chance.",
    sections=("draws", "maxima"),
)
