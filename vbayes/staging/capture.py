"""Capture: draw + estimate + gradient of a pair as one pure tensor program."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor
from torch.fx import GraphModule

from .. import rng
from ..data.dataset import Batch
from ..drawing.base_noise import Draw
from ..errors import BadEstimator, CaptureFailed
from ..pair.device import line_of
from ..pair.pair import Pair
from ..validation import no_warnings_of_nan, validation
from .cause import cause
from .chosen import line_behind
from .digits import distance, equal, largest, largest_on_the_way
from .guards import Guards, Reads
from .masks import with_known_places, without_unread_shapes
from .noise import Noise, Recorder, Sizes, draw_noise, tell_rows, told_rows
from .pure import Deferred, Substitute, moving, no_branch_on_values
from .trace import draws_inside, in_words, trace, without_guards
from .vectorise import SideBySide, several

TRIES = 3  # number of captures of a program that reads rows drawn by plates: the first determines their number, the next their values
MOST = 1e-3  # rounding error relative to the largest number
Tensors = dict[str, Tensor]
Example = tuple[Tensors, Tensors, tuple[Any, ...]]
"""(parameters, buffers, arguments)"""


@dataclass(frozen=True)
class Program:
    """A pair under an estimator as a pure function: no Pyro, no handlers, no global state.

    Attributes:
        graph: (parameters, buffers, noise, arguments) → (gradients, value, buffers): the gradient of the bound for each
            unconstrained parameter, the bound in nats, and the modules' buffers afterwards. An FX graph of
            plain tensor operations.
        parameters: Names of the parameters, in order.
        buffers: The modules' buffers at capture.
        draws: The calls for base noise of one run, in order.
        static: Whether the graph draws no random numbers itself.
        still: Names of the parameters that no gradient reaches, as under `torch.no_grad`. The graph has zeros for them; in Pyro
            their `.grad` stays None, and torch's optimisers leave them alone: no weight decay, no momentum, no state.
        guards: Values of the arguments that are built in, if any: for arguments with other values, bound and gradients are NaN.
        rows: Rows drawn by plates at capture.
        start: The parameters at capture.
    """

    graph: GraphModule | Callable[..., Any]
    parameters: tuple[str, ...]
    buffers: Tensors
    draws: tuple[Draw, ...]
    static: bool
    still: frozenset[str] = frozenset()
    guards: Guards | None = None
    rows: tuple[Tensor, ...] = ()
    start: Tensors = field(default_factory=dict)

    @property
    def sizes(self) -> Sizes:
        """Standard normals and uniforms that one run needs."""
        return Sizes.of(self.draws)

    @property
    def unguarded(self) -> Program:
        """The same program without its guards, for callers that check these before each run."""
        return replace(self, graph=without_guards(self.graph)) if self.guards else self  # type: ignore[arg-type]

    def __call__(self, parameters: Tensors, noise: Noise, *args: Any) -> tuple[Tensors, Tensor]:
        """Runs it for one replica of noise."""
        gradients, value, _ = self.graph(parameters, self.buffers, noise, args)
        return gradients, value


def eager(
    pair: Pair,
    estimator: ELBO,
    total_rows: int | None,
    still: set[str] | None = None,
    reads: Reads | None = None,
) -> Callable[..., tuple[Tensors, Tensor, Tensors]]:
    """The function that `stage` captures, run by Pyro: (parameters, buffers, noise, arguments) → (gradients, value, buffers).

    It must be called inside `pair.scope()` and with validation off.

    Args:
        estimator: Any `pyro.infer.ELBO` with `loss_and_grads`.
        total_rows: N; see `Pair.scaled`.
        still: Each run stores in it the names of the parameters that no gradient reaches.
        reads: Records which values of the arguments are read.
    """
    model, guide = pair.scaled(total_rows)
    method: Any = estimator

    def run(
        parameters: Tensors, buffers: Tensors, noise: Noise | None, args: tuple[Any, ...]
    ) -> tuple[Tensors, Tensor, Tensors]:
        leaves = pair.leaves
        live = moving(parameters, leaves)
        pair.set_buffers({name: value.clone() for name, value in buffers.items()})
        with (
            Recorder(noise) as recorder,
            Substitute((leaves[name], value) for name, value in live.items()),
            Deferred() as deferred,
            reads.noted(recorder) if reads else nullcontext(),
        ):
            loss = method.loss_and_grads(model, guide, *args)
        like = next(iter(live.values()), None)
        zero = torch.zeros(()) if like is None else like.new_zeros(())
        total, loss = sum(deferred.losses, zero), torch.as_tensor(loss)
        if noise and reads and (guards := reads.guards):
            total, loss = (guards.times_one(each, noise[1], args) for each in (total, loss))
        with reads if reads and noise else nullcontext():  # gradients have the same positions
            return gradients_of(-total, live, still), -loss, pair.buffers

    return run


def gradients_of(total: Tensor, live: Tensors, still: set[str] | None) -> Tensors:
    """The gradient for each parameter; zeros for those without one, whose names are put into `still`."""
    asked = {name: value for name, value in live.items() if value.requires_grad}
    found: Sequence[Tensor | None] = (None,) * len(asked)
    if total.requires_grad and asked:
        found = torch.autograd.grad(total, list(asked.values()), allow_unused=True)
    reached = {name: gradient for name, gradient in zip(asked, found, strict=True) if gradient is not None}
    if still is not None:
        still.clear()
        still.update(live.keys() - reached.keys())
    return {name: reached.get(name, torch.zeros_like(value)) for name, value in live.items()}


def stage(pair: Pair, estimator: ELBO, batch: Batch, drawn: Callable[[Program], Tensor] | None = None) -> Program:
    """Captures one gradient of a pair under an estimator.

    Args:
        pair: An initialised pair, whose parameters become inputs of the program.
        estimator: Any `pyro.infer.ELBO`.
        batch: Arguments with the shapes that the program will be called with.
        drawn: Function from a program to (u,), the uniforms of the step that it is for, which contain the rows drawn by plates. Without it, values
            of such rows must not be read.

    Raises:
        CaptureFailed: The pair branches on drawn values, or does something else that can't be part of a graph.
        BadEstimator: The estimator breaks its contract.
    """
    estimator = copy.copy(estimator)  # Pyro's ELBOs remember the plates of the first model that they run
    if several(estimator):
        try:
            return _captured(pair, estimator, batch, _side_by_side)
        except CaptureFailed:
            pass  # then capture the particles one after the other, as Pyro draws them
    rows: list[Tensor] | None = None if drawn is None else []
    for _ in range(TRIES):
        program = _captured(pair, estimator, batch, functools.partial(_one_after_the_other, rows=rows))
        if drawn is None or not program.guards or not program.guards.of_rows:
            return program
        uniforms = drawn(program)
        if program.guards.hold(uniforms, batch.args):
            return program
        rows = told_rows(program.sizes, uniforms)
    raise CaptureFailed(f"Pair {pair.name!r} reads values of rows that its plates subsample anew at each run.")


def _one_after_the_other(
    pair: Pair, estimator: Any, total_rows: int | None, example: Example, still: set[str], rows: list[Tensor] | None
) -> tuple[Callable[..., Any], Sequence[Draw], Reads | SideBySide]:
    """The function to capture, its calls for base noise, and the object that holds its guards after capture."""
    parameters, buffers, args = example
    reads = Reads(args, of_rows=rows is not None, buffers=len(buffers))
    run = eager(pair, estimator, total_rows, still, reads)
    run(parameters, buffers, None, args)  # some ELBOs run model and guide once before they start
    with Recorder(rows=rows or ()) as calls:
        run(parameters, buffers, None, args)
    reads.rows = tuple(calls.rows)
    return run, calls.draws, reads


def _side_by_side(
    pair: Pair, estimator: Any, total_rows: int | None, example: Example, still: set[str]
) -> tuple[Callable[..., Any], Sequence[Draw], Reads | SideBySide]:
    @contextmanager
    def substitute(parameters: Tensors) -> Iterator[None]:
        leaves = pair.leaves
        with Substitute((leaves[name], value) for name, value in parameters.items()), Deferred():
            yield

    def gradients(total: Tensor, live: Tensors) -> Tensors:
        return gradients_of(total, live, still)

    run = SideBySide(pair, estimator, total_rows, substitute, gradients, example)
    return lambda *given: run(*given), run.draws, run


def _captured(pair: Pair, estimator: Any, batch: Batch, prepare: Callable[..., Any]) -> Program:
    with pair.scope(), rng.seeded(0), validation(False), no_branch_on_values():
        parameters = {k: v.detach().clone() for k, v in pair.parameters.items()}
        buffers = {k: v.clone() for k, v in pair.buffers.items()}
        like = next(iter(parameters.values()), torch.zeros(()))
        still = set[str]()
        try:
            run, draws, read = prepare(pair, estimator, batch.total, (parameters, buffers, batch.args), still)
            require_rows_told(draws, like)
            noise = draw_noise(sizes := Sizes.of(draws), 1, like)
            tell_rows(sizes, noise[1][0], read.rows)
            traced = trace(run, parameters, buffers, tuple(n[0] for n in noise), batch.args)
            graph = with_known_places(without_unread_shapes(traced))
            graph.graph.eliminate_dead_code()  # runs of which only the last step is used
            graph.recompile()
        except BadEstimator:  # this fails in Pyro too
            raise
        except Exception as error:  # anything that the model's code raises on a traced value
            raise CaptureFailed(
                f"Pair {pair.name!r} can't be captured{line_behind(error)}: {in_words(error)}."
            ) from error
        finally:  # copies, as steps change the pair's own
            pair.set_buffers({name: value.clone() for name, value in buffers.items()})
    program = Program(
        graph, tuple(parameters), buffers, tuple(draws), static=not draws_inside(graph), still=frozenset(still),
        guards=read.guards, rows=read.rows, start={name: value.clone() for name, value in parameters.items()},
    )  # fmt: skip
    try:
        same = all(faithful(pair, estimator, program, batch, seed) for seed in (1, 2))
    except Exception as error:  # anything that the model's code raises the second time
        raise CaptureFailed(f"Pair {pair.name!r} can't be captured{line_of(error)}: {in_words(error)}.") from error
    if not same:
        raise CaptureFailed(f"Pair {pair.name!r} can't be captured: {cause(pair, estimator, batch)}.")
    return program


def require_rows_told(draws: Iterable[Draw], like: Tensor) -> None:
    """Raises `CaptureFailed` if a plate has more rows than the dtype of the noise can represent exactly."""
    for draw in draws:
        if draw.kind == "rows" and math.prod(draw.shape) * torch.finfo(like.dtype).eps > 2:
            raise CaptureFailed(f"a plate draws from {draw.shape[0]:,} rows, more than {like.dtype} can number exactly")


def faithful(pair: Pair, estimator: Any, program: Program, batch: Batch, seed: int) -> bool:
    """Whether a program gives the same numbers as Pyro, at the pair's parameters and at draws that it was not captured with.

    Far from the start, for example if a scale is e⁻³⁰, a number may be only rounding error: if rounding could explain a difference, they are compared at the parameters of the capture instead.
    """
    estimator = knowing_plates(pair, estimator, batch, seed)
    off, rounding = _apart(pair, estimator, program, batch, seed, pair.parameters)
    if not off or math.isinf(off):
        return not off
    return off <= rounding and not _apart(pair, estimator, program, batch, seed, program.start)[0]


def _apart(
    pair: Pair, estimator: Any, program: Program, batch: Batch, seed: int, parameters: Tensors
) -> tuple[float, float]:
    """The distance of a program's numbers from Pyro's, 0 if they are equal up to rounding and infinite if only one is finite; and the possible rounding error."""
    model, guide = pair.scaled(batch.total)
    like = next(iter(pair.parameters.values()), torch.zeros(()))
    with rng.seeded(seed):
        moved = {k: v + 0.01 * torch.randn_like(v) for k, v in parameters.items()}
        normals, uniforms = draw_noise(program.sizes, 1, like)
        noise = normals[0], uniforms[0]
        if program.guards and program.guards.of_rows:
            tell_rows(program.sizes, noise[1], program.rows)
    with rng.seeded(seed):
        gradients, value = program(moved, noise, *batch.args)
    there = pair.copy().load(moved).load(program.buffers)
    with there.scope(), rng.seeded(seed), validation(False), no_warnings_of_nan():
        with Recorder(noise, in_place=True):
            loss = estimator.loss_and_grads(model, guide, *batch.args)
        if program.still != {k for k, v in there.leaves.items() if v.grad is None}:
            return math.inf, 0.0
        right = {k: torch.zeros_like(v) if v.grad is None else -v.grad for k, v in there.leaves.items()}
    mine = [value, *(gradients[name] for name in right)]
    theirs = [torch.as_tensor(-loss, dtype=value.dtype, device=value.device), *right.values()]
    coarsest = max((torch.finfo(v.dtype).eps for v in moved.values()), default=0.0)
    if equal(mine, theirs, coarsest):
        return 0.0, 0.0
    with rng.seeded(seed):
        met = largest_on_the_way(program.graph, moved, program.buffers, noise, batch.args)
    return distance(mine, theirs), min(coarsest * met, MOST * max(map(largest, theirs)))


def knowing_plates(pair: Pair, estimator: Any, batch: Batch, seed: int = 0) -> Any:
    """A copy of an estimator for use on recorded noise: some of Pyro's ELBOs guess the plates in one more run of model and guide, which would take the noise
    meant for the other."""
    estimator = copy.copy(estimator)
    if not is_dataclass(estimator) and getattr(estimator, "max_plate_nesting", None) == math.inf:
        model, guide = pair.scaled(batch.total)
        with pair.look(seed), validation(False), no_warnings_of_nan():
            estimator.loss_and_grads(model, guide, *batch.args)
    return estimator
