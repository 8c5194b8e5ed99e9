"""The same problems trained with Pyro and with vbayes, from the same model and guide."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO

import vbayes as vb
from vbayes.staging import Replicated, draw_noise, stage
from vbayes.training.minibatches import Minibatches
from vbayes.training.optimizer import optimizer_for
from vbayes.training.staged import Staged
from vbayes.validation import validation

from .problems import Problem


def by_svi(problem: Problem, make: Callable[..., Any]) -> Callable[[int], object]:
    """A function that calls `svi.step` once per step, with a param store of its own.

    Args:
        make: (model, guide, optimiser) → SVI.
    """
    pair = problem.pair()
    model, guide = pair.scaled(len(problem.data[0]))
    svi = make(model, guide, pyro.optim.Adam({"lr": problem.learning_rate}))
    store = pyro.get_param_store()
    held: dict[str, Any] = {"params": {}, "constraints": {}}

    def run(count: int) -> object:
        nonlocal held
        with store.scope(held) as held, warnings.catch_warnings(), problem.here():
            warnings.simplefilter("ignore")  # tracing for JitTrace_ELBO raises many warnings
            return [svi.step(*problem.batch()) for _ in range(count)]

    return run


def pyro_eager(problem: Problem) -> Callable[[int], object]:
    return by_svi(problem, lambda model, guide, optim: SVI(model, guide, optim, Trace_ELBO()))


def pyro_jit(problem: Problem) -> Callable[[int], object]:
    elbo = JitTrace_ELBO(ignore_jit_warnings=True)
    return by_svi(problem, lambda model, guide, optim: SVI(model, guide, optim, elbo))


def vbayes_svi(problem: Problem) -> Callable[[int], object]:
    return by_svi(problem, lambda model, guide, optim: vb.SVI(model, guide, optim, Trace_ELBO(), compile=True))


def _ready(problem: Problem) -> tuple[vb.Pair, vb.Dataset]:
    pair, data = problem.pair(), vb.Dataset.of(problem.data)
    with problem.here():
        pair.initialise(data.batch(pair.model, torch.arange(problem.batch_size or len(data))))
    return pair, data


def vbayes_captured(problem: Problem) -> Callable[[int], object]:
    """The captured graph, run by PyTorch's interpreter, with PyTorch's Adam."""
    pair, data = _ready(problem)
    batch = data.batch(pair.model, torch.arange(problem.batch_size or len(data), device=data.first.device))
    program = stage(pair, vb.Trace(), batch)
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    optimizer = torch.optim.Adam(list(leaves.values()), lr=problem.learning_rate)
    like = next(iter(leaves.values())).detach()

    def run(count: int) -> object:
        values = []
        for _ in range(count):
            normals, uniforms = draw_noise(program.sizes, 1, like)
            parameters = {k: v.detach() for k, v in leaves.items()}
            gradients, value = program(parameters, (normals[0], uniforms[0]), *problem.batch())
            for name, leaf in leaves.items():
                leaf.grad = -gradients[name]
            optimizer.step()
            values.append(float(value))
        return values

    return run


def vbayes_loop(
    problem: Problem, particles: int = 1, *, device: str = "cpu", compile: bool | str = "auto"
) -> Callable[[int], object]:
    """The training loop that `vb.fit` runs."""
    options = {"batch_size": problem.batch_size, "learning_rate": problem.learning_rate, "seed": 0, "compile": compile}
    fit = vb.fit(
        problem.pair(),
        vb.Dataset.of(problem.data),
        vb.Trace(particles),
        steps=0,
        device=device,
        progress=False,
        **options,
    )
    pair = fit.pair
    with pair.scope(), validation(False):
        stepper = optimizer_for(pair.leaves, fit.optimizer, fit.learning_rate)
        steps = Staged(fit, Minibatches(fit.data, fit.batch_size, fit.seed), stepper, 0)

    def run(count: int) -> object:
        with pair.scope(), validation(False):
            taken = steps.take(count)
        if len(taken) < count:
            raise RuntimeError(
                f"{len(taken)} of {count} steps were taken: what is timed has run out of the real numbers."
            )
        return taken

    return run


def pyro_draws(problem: Problem, count: int) -> Callable[[], object]:
    """`count` gradients, computed one after another."""
    pair, data = _ready(problem)
    batch = data.batch(pair.model)
    model, guide = pair.scaled(len(data))

    def run() -> object:
        with pair.scope(), problem.here():
            for _ in range(count):
                Trace_ELBO().loss_and_grads(model, guide, *batch.args)
                made = [leaf.grad for leaf in pair.leaves.values()]
                for leaf in pair.leaves.values():
                    leaf.grad = None
        return made

    return run


def vbayes_draws(problem: Problem, count: int, *, compiled: bool) -> Callable[[], object]:
    """`count` gradients from one captured program, including drawing their noise."""
    pair, data = _ready(problem)
    batch = data.batch(pair.model)
    program = stage(pair, vb.Trace(), batch)
    many = Replicated(program, pair.parameters, batch.args, compiled=compiled)
    parameters = pair.parameters
    like = next(iter(parameters.values()))
    return lambda: list(many(parameters, draw_noise(program.sizes, count, like), batch.args))
