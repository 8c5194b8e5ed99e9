"""Recognition, segmentation and learning with a hidden Markov model: exactly, and with a factored q."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pandas as pd
import torch
from answers import above, every, head, measured, not_above

import vbayes as vb
from vbayes.data.nile import FIRST_YEAR
from vbayes.exact import hidden_markov as hm
from vbayes.plots.palette import GRID

EXACT, FACTORED, OTHER = "#0072B2", "#D55E00", "#7F7F7F"
NAMES = {"^each step by itself": "each step by itself (no dynamics)", "^best path": "best path (Viterbi)", "^posterior": "posterior marginals", "factored": "mean-field"}  # fmt: skip
COLUMNS = ["problem", "what", "at", "value", "se"]
CHANGE = 1898  # the last year before the change (Cobb 1978)
MARGIN = 0.02  # fraction of the steps by which another method may be ahead without counting
CLOSE = 0.05  # nats, out of some thousands, between the ends of gradient ascent and EM


def own(number: int) -> int:
    """The seed of a sample in this run; runs with different seeds share none."""
    return 1000 * vb.default_seed() + number


def chain(stay: float, *, mean: float = 1.0, scale: float = 1.0) -> vb.HiddenMarkov:
    """Two overlapping states with self-transition probability `stay`; in the long run both are equally frequent."""
    moves = torch.tensor([[stay, 1 - stay], [1 - stay, stay]], dtype=torch.float64)
    emission = vb.GaussianEmission(moves.new_tensor([-mean, mean]), moves.new_tensor([scale, scale]))
    return vb.HiddenMarkov(moves.new_full((2,), 0.5), moves, emission)


def mean_se(values: torch.Tensor) -> tuple[float, float]:
    """Mean and standard error of independent values."""
    return float(values.mean()), float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def factored_elbo(model: vb.HiddenMarkov, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The ELBO (N,) of the best factored q, and its probabilities (N, T, S)."""
    given = model.log_densities(x)
    log_q = hm.best_factored(*given, tolerance=1e-6)
    return hm.elbo(*given, log_q), log_q.exp()


def recognition(training: int, held_out: int, steps: int) -> list[tuple]:
    """Which of two models generated a sequence? They emit the same values equally often, but in different orders."""
    models = [chain(0.9), chain(0.6)]
    learnt = [
        vb.baum_welch(m.sample(training, steps, seed=own(i))[0], m, tolerance=1e-3).model for i, m in enumerate(models)
    ]
    x = torch.cat([m.sample(held_out, steps, seed=own(10 + i))[0] for i, m in enumerate(models)])
    label = torch.arange(2).repeat_interleave(held_out)
    scores = {
        "evidence, true models": [m.log_evidence(x) for m in models],
        "evidence, learnt models": [m.log_evidence(x) for m in learnt],
        "factored ELBO, learnt models": [factored_elbo(m, x)[0] for m in learnt],
        "each step by itself": [m.emission.mixture(m.posterior(x[:1] * 0).mean((0, 1)).expand(*x.shape, 2)).log_prob(x).sum(-1) for m in learnt],
    }  # fmt: skip
    right = {name: ((b > a).long() == label).double() for name, (a, b) in scores.items()}
    rows = [("recognition", f"right by {name}", math.nan, *mean_se(values)) for name, values in right.items()]
    gained = right["evidence, learnt models"] - right["each step by itself"]
    rows.append(("recognition", "more right by learnt evidence than step by step", math.nan, *mean_se(gained)))

    observed = torch.ones_like(x[:held_out], dtype=torch.bool)
    observed[:, steps // 3 : steps // 3 + 3] = False
    true, shown = x[:held_out], learnt[0].predictive(x[:held_out], observed=observed)
    inside = ~observed[0]
    error = ((shown.mean - true) ** 2)[:, inside].mean(-1)
    blind = ((true.mean() - true) ** 2)[:, inside].mean(-1)
    rows.append(("recognition", "mean squared error of three completed steps", math.nan, *mean_se(error)))
    rows.append(("recognition", "the same, less that of the overall mean", math.nan, *mean_se(error - blind)))
    return rows


def segmentation(held_out: int, steps: int) -> list[tuple]:
    """Which state was the chain in at each step? On simulated sequences, and on the Nile data."""
    model = chain(0.9)
    x, states = model.sample(held_out, steps, seed=own(20))
    posterior = model.posterior(x)
    paths = {
        "posterior": posterior.argmax(-1),
        "best path": model.viterbi(x),
        "factored q": factored_elbo(model, x)[1].argmax(-1),
        "each step by itself": model.emission.log_prob(x).argmax(-1),
    }
    right = {name: (path == states).double().mean(-1) for name, path in paths.items()}
    rows = [("segmentation", f"right by {name}", math.nan, *mean_se(values)) for name, values in right.items()]
    rows.append(("segmentation", "right by posterior, less what it expects", math.nan, *mean_se(right["posterior"] - posterior.amax(-1).mean(-1))))  # fmt: skip
    rows += [
        ("segmentation", f"right by posterior, less by {name}", math.nan, *mean_se(right["posterior"] - values))
        for name, values in right.items()
        if name != "posterior"
    ]

    flow = vb.data.nile().first.double()
    for number in (1, 2):
        learnt = vb.baum_welch(flow, number, restarts=20, tolerance=1e-5)
        rows.append(
            ("Nile", f"log-evidence with {number} state{'s' * (number > 1)}", math.nan, learnt.log_evidence, 0.0)
        )
    fitted = learnt.model
    high = int(fitted.emission.mean.argmax())
    probability, path = fitted.posterior(flow)[0, :, high], fitted.viterbi(flow)[0]
    for year, value in enumerate(probability.tolist(), start=FIRST_YEAR):
        rows.append(("Nile", "probability of the high state", year, value, 0.0))
    falls = hm.pairwise(*fitted.log_densities(flow))[0, :, high, 1 - high]
    rows += [("Nile", "probability of a fall after this year", FIRST_YEAR + t, float(falls[t]), 0.0) for t in falls.topk(5).indices.tolist()]  # fmt: skip
    rows += [("Nile", "last year of the high state on the best path", math.nan, FIRST_YEAR + int((path == high).nonzero().max()), 0.0)]  # fmt: skip
    rows += [("Nile", "changes of state on the best path", math.nan, int(path.diff().ne(0).sum()), 0.0)]
    return rows


def learning(stays: list[float], repeats: int, rows: int, steps: int, ascent: int) -> list[tuple]:
    """Maximum likelihood by EM, by gradient ascent with the states marginalised, and with the factored q."""
    found = []
    for stay in stays:
        true, kl, apart, lost = chain(stay), [], [], []
        for repeat in range(repeats):
            x, _ = true.sample(rows, steps, seed=own(100 + repeat))
            fresh, _ = true.sample(20 * rows, steps, seed=own(500 + repeat))
            exact = vb.baum_welch(x, true, tolerance=1e-5)
            factored = vb.baum_welch(x, true, tolerance=1e-5, expectation=hm.by_factored)
            kl.append((exact.model.log_evidence(x) - factored_elbo(exact.model, x)[0]).mean())
            lost.append((exact.model.log_evidence(fresh) - factored.model.log_evidence(fresh)).mean())
            if repeat == 0:  # the same data and initial values for both, away from the true parameters
                start = chain(0.8, mean=0.5, scale=1.2)
                by_em = vb.baum_welch(x, start, tolerance=1e-5).log_evidence
                fit = vb.fit(vb.pairs.hmm_summed(start), x, steps=ascent, learning_rate=0.03, progress=False)
                apart.append(vb.pairs.hidden_markov_of(fit.pair).log_evidence(x).sum() - by_em)
        found += [
            ("learning", "KL of the best factored q, nats a sequence", stay, *mean_se(torch.stack(kl))),
            ("learning", "evidence lost on new sequences by the factored q, nats a sequence", stay, *mean_se(torch.stack(lost))),
            ("learning", "gradient ascent's evidence, less EM's, nats for all", stay, float(apart[0]), 0.0),
        ]  # fmt: skip
    return found


def measure(
    *,
    training: int,
    held_out: int,
    steps: int,
    stays: list[float],
    repeats: int,
    rows: int,
    ascent: int,
) -> pd.DataFrame:
    parts = recognition(training, held_out, steps) + segmentation(held_out, steps)
    return pd.DataFrame(parts + learning(stays, repeats, rows, steps, ascent), columns=COLUMNS)


def verdict(table: pd.DataFrame) -> str:
    one = table[table["at"].isna()].set_index(["problem", "what"])
    over = {what: own.set_index("at") for what, own in table[table.problem == "learning"].groupby("what")}
    kl, lost, apart = (next(own for what, own in over.items() if key in what) for key in ("KL", "lost", "ascent"))

    def more(problem: str, what: str, sure: float = 5, sign: float = 1) -> bool | None:
        row = one.loc[(problem, what)]
        return above(sign * row.value, row.se, sure=sure)

    def no_less(name: str) -> bool | None:
        row = one.loc[("segmentation", f"right by posterior, less by {name}")]
        return not_above(-row.value, row.se, within=MARGIN, sure=3)

    calibrated = one.loc[("segmentation", "right by posterior, less what it expects")]
    loses = [
        every([above(kl.value[at], kl.se[at], sure=5), above(lost.value[at], lost.se[at], sure=3)]) for at in kl.index
    ]

    falls = table[table.what == "probability of a fall after this year"]
    last, year = (
        one.loc[("Nile", "last year of the high state on the best path")].value,
        falls.sort_values("value").iloc[-1],
    )
    checks = {
        "evidence tells models apart": more("recognition", "more right by learnt evidence than step by step"),
        "completion beats the mean": more("recognition", "the same, less that of the overall mean", sign=-1),
        "the posterior is calibrated": every(not_above(sign * calibrated.value, calibrated.se, within=MARGIN, sure=4.5) for sign in (1, -1)),
        "it segments best": every([no_less("best path"), no_less("factored q"), more("segmentation", "right by posterior, less by each step by itself")]),
        "the Nile changed after 1898": last == CHANGE == year["at"],
        "gradient ascent ends where EM does": bool((apart.value.abs() < CLOSE).all()),
    }  # fmt: skip
    worst, dearest = (rows.sort_values("value").iloc[-1] for rows in (kl, lost))
    right = {w: v for w, v in one.loc["recognition"].value.items()}
    segments = one.loc["segmentation"].value
    text = (
        f"learnt evidence names the model of {100 * right['right by evidence, learnt models']:.1f} % of new sequences (true models "
        f"{100 * right['right by evidence, true models']:.1f} %, the factored ELBO {100 * right['right by factored ELBO, learnt models']:.1f} %, step by step "
        f"{100 * right['right by each step by itself']:.1f} %); the posterior names {100 * segments['right by posterior']:.1f} % of states (best path "
        f"{100 * segments['right by best path']:.1f} %, factored q {100 * segments['right by factored q']:.1f} %, step by step "
        f"{100 * segments['right by each step by itself']:.1f} %); the Nile's best path leaves the high state after {last:.0f} (probability "
        f"{year.value:.2f}); gradient ascent ends {apart.value.min():+.1g} to {apart.value.max():+.1g} nats from where EM does. The factored q's KL is "
        f"{measured(kl.value.iloc[0], kl.se.iloc[0])} nats a sequence where states stay with probability {kl.index[0]:g} and at most "
        f"{measured(worst.value, worst.se)} (at {worst.name:g}); learning with it costs at most {measured(dearest.value, dearest.se)} nats a new sequence (at {dearest.name:g})."
    )
    return f"{head(checks, {'a factored q does as well': every(None if one is None else not one for one in loses)})}: {text}"


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, axes = plt.subplots(2, 2, figsize=(11, 7.2), layout="constrained")
    for ax, problem in zip(axes[0], ("recognition", "segmentation"), strict=True):
        own = table[(table.problem == problem) & table.what.str.fullmatch("right by [^,]*(, (true|learnt) models)?")]
        colours = [FACTORED if "factored" in w else OTHER if "step" in w else EXACT for w in own.what]
        names = own.what.str.removeprefix("right by ").replace(NAMES, regex=True)
        ax.barh(names, 100 * own.value, xerr=100 * own.se, color=colours, height=0.6, ecolor="#333333")
        ax.invert_yaxis()
        ax.set_xlim(0, 112)
        ax.axvline(50, color="#333333", lw=0.8, ls=":")
        for y, (value, se) in enumerate(zip(own.value, own.se, strict=True)):
            ax.text(100 * (value + se) + 0.8, y, f"{100 * value:.1f}", va="center", fontsize=8)
    axes[0, 0].set(xlabel="given to the true model (%; dotted: chance)", title="Recognition: which model?")  # fmt: skip
    axes[0, 1].set(xlabel="given to the true state (%; dotted: chance)", title="Segmentation: which state?")  # fmt: skip

    ax = axes[1, 0]
    years = table[table.what == "probability of the high state"]
    flow = vb.data.nile().first[0]
    ax.plot(years["at"], flow, color=OTHER, lw=1, marker=".", ms=3)
    ax.set(ylabel="annual flow (10⁸ m³)", xlabel="year", title="Segmentation: the Nile at Aswan")
    ax.axvline(CHANGE + 0.5, color="#333333", lw=0.8, ls=":")
    chance = ax.twinx()
    chance.fill_between(years["at"], 0, years.value, step="mid", color=EXACT, alpha=0.18, lw=0)
    chance.set(ylim=(0, 1), ylabel="posterior probability of the high state")
    chance.spines[["top"]].set_visible(False)

    ax = axes[1, 1]
    for key, colour, marker, label in (
        ("KL", FACTORED, "o", "KL(q ‖ posterior), mean-field q"),
        ("lost", "#B8860B", "s", "log evidence lost on new sequences"),
    ):
        own = table[(table.problem == "learning") & table.what.str.contains(key)]
        ax.errorbar(own["at"], own.value, yerr=own.se, color=colour, marker=marker, ms=5, label=label)
    ax.set(
        xlabel="self-transition probability", ylabel="nats per sequence (± 1 SE)", title="Learning: the cost of a mean-field q"
    )  # fmt: skip
    ax.set_ylim(top=1.35 * table[table.problem == "learning"].value.max())  # room for the legend
    ax.legend(frameon=False, loc="upper left", fontsize=9, handlelength=1.3)
    for ax in axes.flat:
        ax.grid(**GRID)
        ax.set_axisbelow(True)
        ax.spines[["top"] if ax is axes[1, 0] else ["top", "right"]].set_visible(False)
    return drawing


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the single years of the Nile data."""
    return table[table.what != "probability of the high state"]


experiment = vb.Experiment(
    question="Can the three problems of a hidden Markov model be solved exactly, and what does a factored q lose in each?",
    claim="Recognition is the evidence, segmentation the posterior of the states, learning the maximum of the evidence (Rabiner 1989, "
    "doi:10.1109/5.18626): exact here, and reached by EM and gradient ascent alike; a factored q does each approximately, at a price in nats.",
    measure=measure,
    full={
        "training": 100,
        "held_out": 5000,
        "steps": 50,
        "stays": [0.6, 0.7, 0.8, 0.9, 0.95],
        "repeats": 30,
        "rows": 60,
        "ascent": 600,
    },
    quick={"held_out": 1000, "stays": [0.7, 0.8, 0.9], "repeats": 5, "ascent": 400},
    figure=figure,
    verdict=verdict,
    summary=summary,
    sections=("problem",),
    notes="Two states with means −1 and 1 and standard deviation 1; recognition distinguishes self-transition probabilities of 0.9 and 0.6. 'Each step by itself' "
    "uses how often each state occurs but not the transitions. Exact and factored EM start at the true parameters, on several data sets, over which the standard errors are taken; gradient ascent and EM are compared from one start away from them.",
)  # fmt: skip
