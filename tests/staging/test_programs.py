"""Programs in users' styles: captured and compiled, and after each pass of the compiler, they give Pyro's own numbers."""

from __future__ import annotations

import copy

import pytest
import torch

import vbayes as vb
from tests.quick import some_quick
from tests.staging.programs import PROGRAMS, made
from vbayes.staging import Recorder, draw_noise, stage
from vbayes.staging.machine_code import compile_native
from vbayes.staging.native import Unsupported, interpret
from vbayes.validation import validation

SAMPLERS = {"counts_drawn"}  # draws that stay in the graph, which has no C for them


@pytest.mark.filterwarnings("ignore:.*AutoLowRank:UserWarning")
@pytest.mark.parametrize("name", some_quick(PROGRAMS, {*list(PROGRAMS)[:17:2], "sticks", *SAMPLERS}))
def test_captured_and_compiled_are_pyro(name, double):
    pair, elbo, batch = made(name)
    program = stage(pair, elbo, batch)
    with vb.seeded(5):
        normals, uniforms = draw_noise(program.sizes, 1, torch.zeros(()))
        moved = {k: v + 0.1 * torch.randn_like(v) for k, v in pair.parameters.items()}
    noise = normals[0], uniforms[0]
    there = pair.copy().load(moved)
    with there.scope(), vb.seeded(6), validation(False):
        with Recorder(noise, in_place=True):
            loss = copy.copy(elbo).loss_and_grads(there.model, there.guide, *batch.args)
        right = [-torch.as_tensor(loss), *(-leaf.grad for leaf in there.leaves.values()), *there.buffers.values()]
        right = [tensor.clone() for tensor in right]

    def run(normals, uniforms, *rest):
        parameters = dict(zip(moved, rest, strict=False))
        buffers = dict(zip(program.buffers, rest[len(moved) :], strict=False))
        args = rest[len(moved) + len(buffers) :]
        gradients, value, after = program.graph(parameters, buffers, (normals, uniforms), args)
        return [value, *gradients.values(), *after.values()]

    inputs = [*noise, *moved.values(), *program.buffers.values(), *batch.args]
    with vb.seeded(6):
        close(run(*inputs), right)
    assert program.static is (name not in SAMPLERS)
    if name in SAMPLERS:
        with pytest.raises(Unsupported):
            compile_native(run, inputs)
    else:
        native = compile_native(run, inputs)
        close(native(*inputs), right)
        passes = native.translation
        for form in (passes.graph, passes.schedule, passes.layout):
            close(interpret(form, inputs), right)


def close(found, right):
    largest = max(float(r.abs().max()) for r in right[1:]) or 1.0
    for mine, theirs in zip(found, right, strict=True):
        assert mine.shape == theirs.shape
        torch.testing.assert_close(mine.to(theirs), theirs, rtol=1e-10, atol=1e-10 * largest)
