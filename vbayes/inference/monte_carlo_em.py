"""Monte Carlo EM: learning without a recognition model, using Markov chains that follow the posterior of each datum."""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from .. import rng
from ..arguments.takes import takes
from ..data.dataset import Batch, Dataset
from ..drawing.densities import densities
from ..errors import NonFinite, Unsuitable
from ..pair.check import require_parameters
from ..pair.pair import DATA_PLATE, Pair
from ..pair.paired import Model
from ..pair.problem import Problem, pair_and_data
from ..progress import bar, between_steps
from ..summaries.card import Card, Displayable, rounded
from ..summaries.history import End, trained
from ..training.minibatches import EpochLoss, Minibatches, count_steps
from ..training.non_finite_step import NonFiniteStep
from ..training.optimizer import optimizer_for
from ..validation import no_warnings_of_nan, validation
from .hmc import move
from .unconstrained import Seen, Unconstrained

TARGET_ACCEPTANCE = 0.9  # of the proposals accepted, as in Kingma & Welling 2013, appendix E
FIRST_STEP_SIZE = 0.1
ADAPTATION = 0.5  # of the logarithm of the step size, for each unit by which the accepted share misses its target
Row = tuple[int, int, float, float, float, float]


@dataclass(frozen=True, repr=False)
class MonteCarloEM(Displayable):
    """Result of `vb.monte_carlo_em`.

    Attributes:
        pair: The trained model, with its prior as the guide; `vb.log_evidence(found, method="ais")` evaluates it.
        data: The data that it was fitted to, on the device of the fit.
        chains: (C, N, n) current states of the chains of each datum, in unconstrained space; (C, n) for latents shared by all data.
        rows: The history; `history` shows it as a table.
        interrupted: Whether it was stopped early by Ctrl-C.
        batch_size, moves, updates, optimizer, learning_rate, seed: As given.
    """

    pair: Pair
    data: Dataset
    chains: Tensor
    batch_size: int | None
    moves: int
    updates: int
    optimizer: Any
    learning_rate: float | None
    seed: int
    step_size: float = FIRST_STEP_SIZE
    rows: tuple[Row, ...] = ()
    interrupted: bool = False
    generator: dict[str, Any] = field(default_factory=dict)
    moments: dict[str, Any] | None = None

    @property
    def history(self) -> pd.DataFrame:
        """One row per step: step, epoch, log_joint (mean of log p(x, z) over the chains, in nats, for the whole data), acceptance, step_size, seconds."""
        return pd.DataFrame(self.rows, columns=["step", "epoch", "log_joint", "acceptance", "step_size", "seconds"])

    @property
    def steps(self) -> int:
        """Number of minibatches seen."""
        return len(self.rows)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Name → trained value, in constrained space; on the CPU."""
        return {name: value.cpu() for name, value in self.pair.constrained().items()}

    def card(self) -> Card:
        """How far training came, how well the chains move, and the final log p(x, z)."""
        _, epochs, _, _, _, seconds = self.rows[-1] if self.rows else (0, 0, 0.0, 0.0, 0.0, 0.0)
        accepted = End.of([row[3] for row in self.rows]).mean
        chains = f"{tuple(self.chains.shape)}, accepted {rounded(accepted, 2)}, step size {rounded(self.step_size, 3)}"
        rows = (
            trained(
                self.steps, epochs, len(self.data),
                batch_size=self.batch_size, seconds=seconds, interrupted=self.interrupted,
            ),
            ("chains", chains),
            *End.of([row[2] / len(self.data) for row in self.rows]).rows("log p(x, z)"),
        )  # fmt: skip
        return Card(f"MonteCarloEM: {self.pair.name} on {self.data.name}", rows)

    def latents(self) -> dict[str, Tensor]:
        """Site → (C, N, …) current values of the chains; on the CPU."""
        batch = Batch(self.data.batch(self.pair.model).args)
        space = Unconstrained(self.pair, batch)
        with self.pair.scope(), torch.no_grad(), rng.seeded(0), validation(False):
            each = [space.values(state) for state in self.chains]
        return {name: torch.stack([values[name] for values in each]).cpu() for name in each[0]}

    @takes()
    def resume(self, *, steps: int, progress: bool = True) -> MonteCarloEM:
        """Continues training from here, with results bit for bit as if it had never stopped. This object is not changed."""
        return _learn(replace(self, pair=self.pair.copy(), chains=self.chains.clone()), steps, show=progress)


@takes()
def monte_carlo_em(
    pair: Model,
    data: Any = None,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    chains: int = 1,
    moves: int = 1,
    updates: int = 5,
    optimizer: Any = torch.optim.Adam,
    learning_rate: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> MonteCarloEM:
    """Trains a model by Monte Carlo EM: maximum likelihood with z sampled from its posterior by Hamiltonian Monte Carlo, without a guide.

    E step: each datum of a minibatch has its own chains, started from the prior, which make `moves` moves of Hamiltonian Monte Carlo under p_θ(z|x) ∝ p_θ(x, z). Each move has ten
    leapfrog steps, whose size is tuned so that nine proposals in ten are accepted. M step: θ takes `updates` gradient steps up mean log p_θ(x, z). There is no guide and no bound:
    log p(x) itself is maximised, as far as the chains keep up with θ. The price is that the chains of a datum move once per epoch, and nothing is learnt about new data.

    Args:
        pair: The pair whose model is trained; its latents must be continuous. Its guide is not used.
        data: As for `fit`.
        steps: Number of minibatches; or
        epochs: number of passes over the data. 1000 minibatches if neither is given.
        batch_size: M, rows in a minibatch; None takes all rows in each step.
        chains: C, the number of chains for each datum.
        moves: Number of moves at each visit to a datum.
        updates: Number of gradient steps on θ at each visit.
        optimizer, learning_rate, seed, device: As for `fit`.
        progress: Whether to show a progress bar.

    Raises:
        BadInput: A number below 1.
        BadPair: Model and data do not fit together.
        Unsuitable: Discrete latents, or latents shared by all data together with `batch_size`.
        NonFinite: log p(x, z) or its gradient became NaN or infinite; the error's `fit` has the state reached before.

    References:
        Wei & Tanner 1990, doi:10.1080/01621459.1990.10474930; Kingma & Welling 2013, arXiv:1312.6114, appendix E, whose baseline this is.

    Examples:
        >>> found = vb.monte_carlo_em(vb.pairs.vae(latent=3), vb.data.digits(), epochs=20, batch_size=100)
        >>> vb.log_evidence(found, method="ais")
    """
    seed = rng.or_default(seed)
    pair, data = pair_and_data(pair, data)
    dataset = Dataset.of(data)
    dataset.check_batch_size(batch_size)
    by_prior = pair.copy().guided_by_prior(pair.beside(Batch(dataset.batch(pair.model).args)))
    problem = Problem.of(by_prior, dataset, batch_size=batch_size, device=device)
    pair, dataset = problem.pair, problem.data
    space = Unconstrained(pair, problem.whole)
    require_parameters(pair)
    if batch_size not in (None, len(dataset)) and space.local != (len(dataset),):
        raise Unsuitable(
            f"batch_size={batch_size}, but pair {pair.name!r} does not have its own latents for each row of the plate {DATA_PLATE!r}, so a minibatch has no chains of its own. "
            "Wanted: batch_size=None."
        )
    with pair.scope(), torch.no_grad(), rng.seeded(seed), validation(False):
        begun = space.draws(chains)
        state = rng.get_state()
    fresh = MonteCarloEM(
        pair, dataset, begun, batch_size, moves, updates, optimizer, learning_rate, seed, generator=state
    )  # fmt: skip
    return _learn(fresh, count_steps(dataset, batch_size, steps, epochs), show=progress)


def _learn(found: MonteCarloEM, steps: int, *, show: bool) -> MonteCarloEM:
    """`steps` more. `found.pair` and `found.chains` are ours to change."""
    pair, data, chains, step_size, rows = found.pair, found.data, found.chains, found.step_size, list(found.rows)
    order = Minibatches(data, found.batch_size, found.seed)
    epoch = EpochLoss(order, len(rows), [row[2] for row in rows])
    spaces: dict[int, Unconstrained] = {}
    before, start, interrupted = rows[-1][5] if rows else 0.0, time.perf_counter(), False
    generator, failure = dict(found.generator), ""
    with (
        pair.scope(),
        rng.continued(generator),
        validation(False),
        no_warnings_of_nan(),
        bar("Monte Carlo EM", steps, show=show, unit="step") as advance,
        between_steps() as asked_to_stop,
    ):
        stepper = optimizer_for(pair.leaves, found.optimizer, found.learning_rate, found.moments)
        for done in range(1, steps + 1):
            number = len(rows) + 1
            index = order.index(number)
            batch = Batch(order.data(number).batch(pair.model, index).args)
            size = len(data) if index is None else len(index)
            if size not in spaces:
                spaces[size] = Unconstrained(pair, batch)
            space = spaces[size].on(batch)
            state = chains if index is None else chains[:, index]
            state, taken = _follow(space, state, step_size, found.moves)
            step_size *= math.exp(ADAPTATION * (taken - TARGET_ACCEPTANCE))
            if index is None:
                chains = state
            else:
                chains[:, index] = state
            try:
                joint = _climb(space, state, stepper, found.updates, len(data) / size)
            except NonFiniteStep as error:
                failure = str(error)
                break
            rows.append((number, order.epoch(number), joint, taken, step_size, before + time.perf_counter() - start))
            if (mean := epoch.after(number, joint)) is not None:
                stepper.end_epoch(mean)
            advance(done, functools.partial("log p(x, z) per datum {:.4g}".format, joint / len(data)))
            if interrupted := asked_to_stop():
                break
        moments = stepper.get_state()
    reached = replace(
        found,
        chains=chains,
        step_size=step_size,
        rows=tuple(rows),
        interrupted=interrupted,
        generator=generator,
        moments=moments,
    )
    if failure:
        raise NonFinite(
            f"The {failure} of pair {pair.name!r} under Monte Carlo EM is not finite at step {len(rows) + 1}. Common fixes: a smaller learning_rate, a scale bounded away "
            f"from 0. Nothing is lost: this error's `.fit` has the history of {len(rows)} steps and the last finite parameters.",
            step=len(rows) + 1, sites=(), fit=reached,
        )  # fmt: skip
    return reached


def _follow(space: Unconstrained, state: Tensor, step_size: float, moves: int) -> tuple[Tensor, float]:
    """E: states (C, *local, n) after some moves, and the share of proposals taken."""

    def target(states: Tensor) -> Seen:
        each = [space.one(one) for one in states]
        return tuple(torch.stack(part) for part in zip(*each, strict=True))  # type: ignore[return-value]

    length, shares = torch.as_tensor(step_size, dtype=state.dtype, device=state.device), []
    with torch.no_grad():
        before = target(state)
        for _ in range(moves):
            state, before, taken = move(target, state, before, 1.0, length)
            shares.append(float(taken.mean()))
    return state, sum(shares) / len(shares)


def _climb(space: Unconstrained, state: Tensor, stepper: Any, updates: int, scale: float) -> float:
    """M: steps of θ up the mean of log p(x, z) over the chains, times N/M; that mean before the first."""
    pair, first = space.pair, math.nan
    leaves = list(pair.leaves.values())
    values = [space.values(one) for one in state]
    for update in range(updates):
        each = [densities(pair.model, pair.guide, space.batch.args, one)[0].sum() for one in values]
        joint = scale * torch.stack(each).mean()
        if update == 0:
            first = float(joint.detach())
        if not torch.isfinite(joint):
            raise NonFiniteStep("log p(x, z)")
        # None where no gradient reaches, as `backward` has it: the optimiser leaves those alone, weight decay and all.
        gradients = torch.autograd.grad(-joint, leaves, allow_unused=True)
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient
        stepper(leaves)
    return first
