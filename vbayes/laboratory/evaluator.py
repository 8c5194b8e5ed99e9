"""An accurate estimate of the ELBO, with common draws for all pairs evaluated by it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from .. import rng
from ..data.dataset import Dataset
from ..errors import CaptureFailed
from ..estimators.suits import of_elbo
from ..pair.pair import Pair
from ..staging import Program, draw_noise, stage
from ..staging.backends import made_by
from ..staging.replicate import footprint, free_memory, one_of_many
from ..validation import no_warnings_of_nan, validation, vmap

ROWS = 2000  # maximum number of rows that are evaluated, if a pair takes minibatches
WORK = 2**14  # rows × draws of one evaluation ...
DRAWS = (8, 1000)  # ... with at least and at most this number of draws
MUCH = (
    2**24
)  # bytes; with six times as many, for a convolutional VAE, XLA takes 19 ms and `vmap` 155; for small programs both take the same time, and XLA a second to start
BY_PYRO = 100  # maximum number of draws if Pyro makes them one by one


class Evaluator:
    """The ELBO per datum of a pair at any of its parameters.

    The exact ELBO if the pair has one. Otherwise the mean over many draws, with closed-form KLs if available, on the same
    rows with the same base noise each time, so that the difference between two evaluations has far less noise than either.

    Args:
        pair: An initialised pair.
        data: The whole data set.
        subset: Whether a subset of the rows may be used, as is possible for pairs that are fitted in minibatches.
        seed: Seed for the rows and the noise.
        backend: The back end; see `staging.backends.made_by`. If there is no machine code, "auto" uses XLA for evaluations with more than `MUCH` intermediate results.

    Attributes:
        description: How the ELBO is computed, in words.
        why_not: Why neither machine code nor XLA evaluates it; None if one does.
    """

    def __init__(self, pair: Pair, data: Dataset, *, subset: bool, seed: int | None = None, backend: str = "auto") -> None:  # fmt: skip
        self._data, self._exact = data, pair.exact
        if self._exact:
            self.description = "exact ELBO"
            self._batch = data.batch(pair.model)
            return
        index, seed = None, rng.or_default(seed)
        if subset and len(data) > ROWS:
            index = (
                torch.randperm(len(data), generator=rng.stream(seed, 0), device="cpu")[:ROWS]
                .sort()
                .values.to(data.first.device)
            )
        rows = len(data) if index is None else ROWS
        self._draws = max(DRAWS[0], min(DRAWS[1], WORK // rows))
        self._batch, self._seed = data.batch(pair.model, index), seed
        self._program: Program | None = None
        pair = pair.copy()
        try:
            self._program = stage(pair, of_elbo(pair, self._batch), self._batch)
        except CaptureFailed:
            self._draws = min(self._draws, BY_PYRO)
            self._by_pyro = of_elbo(pair, self._batch, self._draws)
        else:
            self._prepare(pair, backend)
        self.description = f"{self._draws} draws for each of {rows} rows"

    def __call__(self, pair: Pair) -> float:
        """The ELBO per datum in nats; NaN if it is not finite."""
        with torch.no_grad(), validation(False), no_warnings_of_nan():
            elbo = float(self._elbo(pair)) / len(self._data)
        return elbo if abs(elbo) < float("inf") else float("nan")

    def _elbo(self, pair: Pair) -> Tensor | float:
        if self._exact:
            with pair.look():
                return self._exact.elbo(*self._batch.args)
        if self._program is not None:
            with rng.seeded(self._seed):  # for draws that are not made from base noise
                return self._values(pair).double().mean()
        model, guide = pair.scaled(self._batch.total)
        with pair.look(self._seed):
            return -self._by_pyro.loss(model, guide, *self._batch.args)

    def _prepare(self, pair: Pair, backend: str) -> None:
        """Compiles the value without its gradient; otherwise computes many draws at once, if possible."""
        assert self._program is not None
        like, program = next(iter(pair.parameters.values())), self._program
        backend = "native" if backend == "auto" and footprint(program) * self._draws < MUCH else backend
        self._noise = draw_noise(program.sizes, self._draws, like, rng.stream(self._seed, 1, device=like.device))
        self._chunk = min(self._draws, max(1, free_memory(like.device) // 4 // max(1, footprint(program))))
        inputs = self._inputs(pair)
        self._native, self._xla, self.why_not = made_by(
            backend, self._value, [*(numbers[0] for numbers in self._noise), *inputs],
            draws=not program.static, check=functools.partial(one_of_many, together=self._draws),
        )  # fmt: skip
        many = vmap(self._value, in_dims=(0, 0, *[None] * len(inputs)), randomness="different")
        self._many: Callable[..., list[Tensor]] | None = None
        with (
            rng.seeded(0),
            suppress(RuntimeError, NotImplementedError),
        ):  # operations without a rule for vmap are run one by one
            if self.why_not is not None:
                many(*(numbers[:2] for numbers in self._noise), *inputs)
                self._many = many

    def _value(self, normals: Tensor, uniforms: Tensor, *rest: Tensor) -> list[Tensor]:
        """The ELBO of one draw, without the gradient that the program also computes."""
        program = self._program
        assert program is not None
        values = iter(rest)
        parameters = {name: next(values) for name in program.parameters}
        buffers = {name: next(values) for name in program.buffers}
        return [program.graph(parameters, buffers, (normals, uniforms), tuple(values))[1]]

    def _inputs(self, pair: Pair) -> list[Tensor]:
        assert self._program is not None
        state = pair.state()
        return [*(state[name] for name in (*self._program.parameters, *self._program.buffers)), *self._batch.args]

    def _values(self, pair: Pair) -> Tensor:
        """(draws,) the ELBO of each."""
        inputs = self._inputs(pair)
        if self._native is not None:
            ((shape, dtype),) = self._native.results
            values = torch.empty(self._draws, *shape, dtype=dtype, device="cpu")
            self._native.run(self._draws, [*self._noise, *inputs], [values], rows=(0, 1), reported=(0,))
            return values
        if self._xla is not None:
            return self._xla.side_by_side(self._noise, inputs, self._draws)[0]
        if self._many is None:
            return torch.stack([self._value(*noise, *inputs)[0] for noise in zip(*self._noise, strict=True)])
        chunks = zip(*(numbers.split(self._chunk) for numbers in self._noise), strict=True)
        return torch.cat([self._many(*noise, *inputs)[0] for noise in chunks])
