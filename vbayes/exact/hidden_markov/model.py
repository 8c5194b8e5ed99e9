"""A hidden Markov model with known parameters, and exact inference in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from ... import rng
from ...arguments.instance import Instance
from ...arguments.kind import Either
from ...arguments.names import SIZE
from ...arguments.takes import takes
from ...errors import BadInput
from . import messages, paths
from .emissions import Emission, check_probabilities, log_of
from .messages import inside
from .sequences import check_sequences, filled, where_seen


@takes(emission=Instance(Emission, "vb.GaussianEmission or vb.CategoricalEmission", "vb.GaussianEmission(mean, scale)"))
@dataclass(frozen=True)
class HiddenMarkov:
    """A hidden Markov model: z_1 ~ initial, z_{t+1} ~ transition[z_t], x_t ~ emission(z_t), independently for each sequence.

    Everything is exact and takes O(log T) sequential steps. Sequences are the rows of x (N, T), or (N, T, D);
    `lengths` (N,) are their lengths, and values beyond them are ignored; `observed` (N, T), booleans, tells
    which steps were observed, and values at the others are ignored too.

    Attributes:
        initial: (S,) probabilities of the first state.
        transition: (S, S) probabilities of the next state, by rows.
        emission: `GaussianEmission` or `CategoricalEmission`, for S states.

    Raises:
        BadInput: Probabilities are not valid, or shapes do not match.

    Examples:
        >>> emission = vb.GaussianEmission(torch.tensor([850.0, 1100.0]), torch.tensor([125.0, 125.0]))
        >>> model = vb.HiddenMarkov(torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.1, 0.9]]), emission)
        >>> model.viterbi(vb.data.nile().first[None])

    References:
        Rabiner 1989, A tutorial on hidden Markov models, doi:10.1109/5.18626.
    """

    initial: Tensor
    transition: Tensor
    emission: Emission

    def __post_init__(self) -> None:
        states = self.emission.states
        if self.initial.shape != (states,) or self.transition.shape != (states, states):
            raise BadInput(
                f"initial has shape {tuple(self.initial.shape)}, transition {tuple(self.transition.shape)}, and the emission {states} states. "
                f"Wanted: ({states},) and ({states}, {states})."
            )
        check_probabilities("initial", self.initial)
        check_probabilities("transition", self.transition)
        self.emission.check()

    @property
    def states(self) -> int:
        """S."""
        return self.emission.states

    def log_densities(
        self, x: Tensor, lengths: Tensor | None = None, *, observed: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """log initial (S,), log transition (S, S) and log p(x_t | state) (N, T, S), which is 0 for steps that were not observed;
        the arguments of the functions in `vbayes.exact.hidden_markov`.
        """
        seen = check_sequences(self.emission, x, lengths, observed)
        emission = torch.where(seen[..., None], self.emission.log_prob(filled(x, seen)), 0.0)
        return log_of(self.initial), log_of(self.transition), emission

    def log_evidence(self, x: Tensor, lengths: Tensor | None = None, *, observed: Tensor | None = None) -> Tensor:
        """(N,) log p(x) of the observed steps, in nats."""
        return messages.log_evidence(*self.log_densities(x, lengths, observed=observed), lengths)

    def posterior(self, x: Tensor, lengths: Tensor | None = None, *, observed: Tensor | None = None) -> Tensor:
        """(N, T, S) p(z_t | x), 0 past a row's end."""
        given = self.log_densities(x, lengths, observed=observed)
        return messages.marginals(*given, lengths) * inside(given[-1], lengths)[..., None]

    def filtered(self, x: Tensor, lengths: Tensor | None = None, *, observed: Tensor | None = None) -> Tensor:
        """(N, T, S) p(z_t | x_1, …, x_t), 0 past a row's end."""
        given = self.log_densities(x, lengths, observed=observed)
        return messages.forward(*given, lengths).softmax(-1) * inside(given[-1], lengths)[..., None]

    def viterbi(self, x: Tensor, lengths: Tensor | None = None, *, observed: Tensor | None = None) -> Tensor:
        """(N, T) the most probable path of states, −1 past a row's end."""
        return paths.viterbi(*self.log_densities(x, lengths, observed=observed), lengths)[0]

    def sample_states(
        self, x: Tensor, lengths: Tensor | None = None, *, observed: Tensor | None = None, seed: int | None = None
    ) -> Tensor:
        """(N, T) a path of states from p(z | x), −1 past a row's end."""
        given = self.log_densities(x, lengths, observed=observed)
        return paths.sample_posterior(*given, lengths, generator=_generator(x, seed))

    def predictive(self, x: Tensor, lengths: Tensor | None = None, *, observed: Tensor | None = None) -> Distribution:
        """p(x_t | observed steps) at each step separately, over (N, T), to fill in missing steps or forecast.

        At an observed step it is the distribution of a repeated observation.
        """
        given = self.log_densities(x, lengths, observed=observed)
        return self.emission.mixture(messages.marginals(*given, lengths))

    def complete(
        self, x: Tensor, observed: Tensor, lengths: Tensor | None = None, *, seed: int | None = None
    ) -> Tensor:
        """x with the steps that were not observed drawn from their joint posterior predictive."""
        generator = _generator(x, seed)
        path = paths.sample_posterior(*self.log_densities(x, lengths, observed=observed), lengths, generator=generator)
        drawn = self.emission.sample(path.clamp(min=0), generator).to(x)
        return where_seen(observed | ~inside(x, lengths), x, drawn)

    def sample(self, rows: int, steps: int, *, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """Samples sequences from the model.

        Returns:
            (rows, steps, *features) x, and (rows, steps) the states behind it.
        """
        if rows < 1 or steps < 1:
            raise BadInput(f"rows={rows}, steps={steps}. Wanted: at least 1 of each.")
        generator = _generator(self.initial, seed)
        path = paths.sample_prior(log_of(self.initial), log_of(self.transition), rows, steps, generator=generator)
        return self.emission.sample(path, generator), path


def _generator(like: Tensor, seed: int | None) -> torch.Generator:
    return torch.Generator(like.device).manual_seed(rng.or_default(seed))


STATES = Either(SIZE, Instance(HiddenMarkov, "a vb.HiddenMarkov", "vb.HiddenMarkov(initial, transition, emission)"))
"""A model to start from, or how many states there are to be."""
