"""Hidden Markov models: with a guide that factorises over the states, and with the states summed out."""

from __future__ import annotations

from typing import Literal, get_args

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from .. import rng
from ..arguments.choice import Choice
from ..arguments.instance import Instance
from ..arguments.kind import Optional
from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..arguments.whole import Whole
from ..errors import BadInput
from ..exact import hidden_markov as truth
from ..exact.hidden_markov import CategoricalEmission, Emission, GaussianEmission, HiddenMarkov
from ..exact.hidden_markov.messages import inside
from ..exact.hidden_markov.model import STATES
from ..exact.hidden_markov.sequences import check_sequences, filled
from ..pair.exact import Exact
from ..pair.pair import DATA_PLATE, Pair
from .chains import MarkovChain, Observed

Kind = Literal["gaussian", "categorical"]
KIND = Choice(get_args(Kind), "kind of emission")
SPREAD = 1.0  # standard deviation of initial logits and means, large enough to break the symmetry


@takes(states=STATES, rows=SIZE, steps=SIZE, emission=KIND, features=Optional(SIZE), symbols=Whole(2))
def hmm(
    states: int | HiddenMarkov,
    *,
    rows: int,
    steps: int,
    emission: Kind = "gaussian",
    features: int | None = None,
    symbols: int = 2,
    seed: int | None = None,
) -> Pair:
    """Hidden Markov model with a factored guide, with exact ELBO, evidence and posterior marginals.

    z_1 ~ Categorical(initial), z_{t+1} ~ Categorical(transition[z_t]), x_t ~ N(mean[z_t], scale[z_t]²) or
    Categorical(emission[z_t]), everything learnt; q(z) = Π_t Categorical, free for each row and step. A datum is a whole
    sequence; all its states are the site "z" of shape (N, T), whose cost does not depend on a loop over time.

    Args:
        states: Number of states S, with random initial parameters; or a `HiddenMarkov` to start from, whose emission is then used.
        rows: N. Model and guide are called with x (N, T), or (N, T, D), and optionally lengths (N,), the number of
            steps in each row. All rows are passed at once, as each has its own q.
        steps: Number of steps, T.
        emission: "gaussian" for real numbers or "categorical" for integers.
        features: D for Gaussian vectors; None for scalars.
        symbols: K for integers from 0 to K − 1.
        seed: Seed for the parameters at the start.

    References:
        Rabiner 1989, A tutorial on hidden Markov models, doi:10.1109/5.18626; Saul & Jordan 1996, Exploiting tractable
        substructures in intractable networks, for what the factored q costs.
    """
    seed = rng.or_default(seed)
    p = _Generative(_start(states, emission, features, symbols, seed))

    def q(x: Tensor, lengths: Tensor | None) -> Tensor:
        """(N, T, S) log-probabilities; uniform past a row's end, as in the model."""
        logits = pyro.param("states", lambda: _noise(seed, 1, rows, steps, p.start.states).to(x.device))
        return torch.where(inside(x, lengths)[..., None], logits, 0.0).log_softmax(-1)

    def check(x: Tensor, lengths: Tensor | None) -> None:
        p.check(x, lengths)
        if x.shape[:2] != (rows, steps):
            raise BadInput(
                f"x has {len(x)} sequences of {x.shape[1]} steps; the guide has parameters for {rows} sequences of {steps} steps. Wanted: all of "
                "them in each call (batch_size=None), or vb.pairs.hmm_summed, whose guide is empty."
            )

    def model(x: Tensor, lengths: Tensor | None = None) -> None:
        check(x, lengths)
        initial, transition, emission = p.parameters(x)
        within = inside(x, lengths)
        with pyro.plate(DATA_PLATE, len(x)):
            z = pyro.sample("z", MarkovChain(initial, transition, x.shape[1], lengths))
            seen = p.given(emission, z).mask(within).to_event(1)
            pyro.sample("x", seen, obs=_observed(x, within, lengths))

    def guide(x: Tensor, lengths: Tensor | None = None) -> None:
        check(x, lengths)
        with pyro.plate(DATA_PLATE, len(x)):
            pyro.sample("z", dist.Categorical(logits=q(x, lengths)).to_event(1))

    def posterior(x: Tensor, lengths: Tensor | None = None) -> dict[str, dist.TorchDistribution]:
        return {"z": dist.Categorical(truth.marginals(*p.known(x, lengths), lengths)).to_event(1)}

    exact = Exact(
        elbo=lambda x, lengths=None: truth.elbo(*p.known(x, lengths), q(x, lengths), lengths).sum(),
        log_evidence=lambda x, lengths=None: truth.log_evidence(*p.known(x, lengths), lengths).sum(),
        posterior=posterior,
        log_evidence_per_datum=lambda x, lengths=None: truth.log_evidence(*p.known(x, lengths), lengths),
    )
    return Pair(model, guide, name="hmm", exact=exact)


@takes(states=STATES, emission=KIND, features=Optional(SIZE), symbols=Whole(2))
def hmm_summed(
    states: int | HiddenMarkov,
    *,
    emission: Kind = "gaussian",
    features: int | None = None,
    symbols: int = 2,
    seed: int | None = None,
) -> Pair:
    """Hidden Markov model with its states summed out, in O(log T) steps: its ELBO is the evidence, without noise.

    The guide is empty. Model and guide are called with x (M, T), or (M, T, D), of any M and T, and optionally lengths (M,).

    Args:
        states, emission, features, symbols, seed: As for `hmm`; the same seed makes the same model.
    """
    p = _Generative(_start(states, emission, features, symbols, seed))

    def model(x: Tensor, lengths: Tensor | None = None) -> None:
        p.check(x, lengths)
        within = inside(x, lengths)
        with pyro.plate(DATA_PLATE, len(x)):
            pyro.sample("x", Observed(*p.parameters(x), x.shape[1], lengths), obs=_observed(x, within, lengths))

    def guide(x: Tensor, lengths: Tensor | None = None) -> None:
        pass

    def each(x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return truth.log_evidence(*p.known(x, lengths), lengths)

    def evidence(x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return each(x, lengths).sum()

    return Pair(model, guide, name="hmm_summed", exact=Exact(evidence, evidence, lambda x, lengths=None: {}, each))


@takes(pair=Instance(Pair, "a pair of vb.pairs.hmm or hmm_summed", "the pair"))
def hidden_markov_of(pair: Pair) -> HiddenMarkov:
    """The current model of an `hmm` or `hmm_summed` pair as a `HiddenMarkov` on the CPU, for its evidence, posterior, paths and samples.

    Args:
        pair: An initialised or trained pair.

    Raises:
        BadInput: It is another kind of pair, or has no parameters yet.
    """
    if not {"initial", "transition"} <= set(pair.parameters):
        raise BadInput(
            f"Pair {pair.name!r} has no hidden Markov model. Wanted: a trained pair of vb.pairs.hmm or hmm_summed."
        )
    store = {name: value.cpu() for name, value in pair.constrained().items()}
    if "mean" in store:
        emission: Emission = GaussianEmission(store["mean"], store["scale"])
    else:
        emission = CategoricalEmission(store["symbols"].softmax(-1))
    return HiddenMarkov(store["initial"].softmax(-1), store["transition"].softmax(-1), emission)


class _Generative:
    """p_θ(x, z) with the parameters of a pair."""

    def __init__(self, start: HiddenMarkov) -> None:
        self.start = start

    def parameters(self, x: Tensor) -> tuple[Tensor, Tensor, Emission]:
        """Log-probabilities of the first and the next state, and the emission; differentiable, and created on the device of the data."""
        start = self.start
        initial = pyro.param("initial", lambda: _logits(start.initial).to(x.device)).log_softmax(-1)
        transition = pyro.param("transition", lambda: _logits(start.transition).to(x.device)).log_softmax(-1)
        of = start.emission
        if isinstance(of, GaussianEmission):
            mean = pyro.param("mean", lambda: of.mean.to(x.device, copy=True))
            scale = pyro.param("scale", lambda: of.scale.to(x.device, copy=True), constraint=dist.constraints.positive)
            return initial, transition, GaussianEmission(mean, scale)
        assert isinstance(of, CategoricalEmission)
        symbols = pyro.param("symbols", lambda: _logits(of.probability).to(x.device))
        return initial, transition, CategoricalEmission(symbols.softmax(-1))

    def known(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments of the closed forms."""
        self.check(x, lengths)
        initial, transition, emission = self.parameters(x)
        within = inside(x, lengths)
        return initial, transition, torch.where(within[..., None], emission.log_prob(filled(x, within)), 0.0)

    def given(self, emission: Emission, z: Tensor) -> dist.TorchDistribution:
        """p(x_t | z_t) as a Pyro distribution."""
        if isinstance(emission, GaussianEmission):
            return dist.Normal(emission.mean[z], emission.scale[z]).to_event(len(emission.features))
        assert isinstance(emission, CategoricalEmission)
        return dist.Categorical(emission.probability[z])

    def check(self, x: Tensor, lengths: Tensor | None) -> None:
        if is_validation_enabled():
            check_sequences(self.start.emission, x, lengths)


def _observed(x: Tensor, within: Tensor, lengths: Tensor | None) -> Tensor:
    """x, unchanged if all steps count, so that it is recognised as the argument."""
    return x if lengths is None else filled(x, within)


def _start(
    states: int | HiddenMarkov, emission: str, features: int | None, symbols: int, seed: int | None
) -> HiddenMarkov:
    if isinstance(states, HiddenMarkov):
        return states
    if states < 1 or symbols < 1 or (features is not None and features < 1):
        raise BadInput(f"states={states}, symbols={symbols}, features={features}. Wanted: at least 1 of each.")
    initial, transition = _noise(seed, 0, states).softmax(-1), _noise(seed, 2, states, states).softmax(-1)
    if emission == "gaussian":
        shape = (states,) if features is None else (states, features)
        shown: Emission = GaussianEmission(_noise(seed, 3, *shape), torch.ones(shape))
    elif emission == "categorical":
        shown = CategoricalEmission(_noise(seed, 3, states, symbols).softmax(-1))
    else:
        raise BadInput(f"emission={emission!r}. Wanted: 'gaussian' or 'categorical'.")
    return HiddenMarkov(initial, transition, shown)


def _logits(probability: Tensor) -> Tensor:
    # A probability of 0 would stay 0 for ever, with an infinite logit.
    return probability.clamp(min=torch.finfo(probability.dtype).eps).log()


def _noise(seed: int | None, which: int, *shape: int) -> Tensor:
    """Small normal draws; `which` distinguishes the parts of a model."""
    return SPREAD * torch.randn(shape, generator=rng.stream(rng.or_default(seed), which))
