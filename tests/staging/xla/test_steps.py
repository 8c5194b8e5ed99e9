"""Many steps in one call by XLA: the numbers of machine code on the same noise, and no step into what is not finite."""

from __future__ import annotations

import functools

import pytest
import torch

import vbayes as vb
from tests.models import binary, small_vae
from tests.staging.test_loop import OPTIMISERS, looped
from tests.tractable import batch_of, pair_of
from vbayes.staging import draw_noise, stage
from vbayes.staging.averaged_adam import AveragedAdam

pytest.importorskip("jax")  # the extra `xla`, which the extra `test` brings

import jax.numpy as jnp
from jax import lax, vmap

from vbayes.staging.xla.jitted import Jitted

pytestmark = pytest.mark.on_cpu
FAST = {"Adam"}


@functools.cache
def both(case):
    """A loop in machine code and one by XLA, their start, noise and rows for 40 steps."""
    constructor, options = OPTIMISERS[case]
    data = binary(12).double()
    pair = small_vae().initialise(vb.Batch((data,)))
    program = stage(pair, vb.Pathwise(), vb.Batch((data[:4],), 12))
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    loops = []
    for backend in ("native", "xla"):
        optimizer = constructor(list(leaves.values()), **options)
        loop, state = looped(pair, program, optimizer, leaves, (data,), 4, backend=backend)
        loops.append(loop)
    with vb.seeded(1):
        noise = draw_noise(program.sizes, 40, data)
        index = torch.stack([torch.randperm(12)[:4] for _ in range(40)])
    return *loops, state, noise, index


@pytest.mark.parametrize("case", [c if c in FAST else pytest.param(c, marks=pytest.mark.slow) for c in OPTIMISERS])
def test_the_steps_of_machine_code(case, double):
    native, xla, state, noise, index = both(case)
    assert xla.xla and native.native, xla.why_not
    right, elbos = native.run(state, noise, index)
    reached, values = xla.run(state, noise, index)
    torch.testing.assert_close(values, elbos, rtol=1e-10, atol=1e-10)  # in double, forty steps of rounding
    for mine, theirs in zip(reached.flat(), right.flat(), strict=True):
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)
    # In parts it is the same to the last bit, and what was handed in stays.
    part, _ = xla.run(state, tuple(n[:13] for n in noise), index[:13])
    whole, _ = xla.run(part, tuple(n[13:] for n in noise), index[13:])
    assert state.steps == 0 and all(torch.equal(a, b) for a, b in zip(whole.flat(), reached.flat(), strict=True))


def test_a_step_that_is_not_finite_is_not_taken(double):
    """Looking after each step, as on the CPU, and after every sixteen, as on a card."""
    _, loop, state, noise, index = both("Adam")
    right, values = loop.run(state, noise, index)
    for between in (1, 16):
        again, seen = loop.xla.steps(state.flat(), [*noise, index], loop._columns, between_looks=between)
        assert torch.equal(seen, values) and all(map(torch.equal, again, right.flat()))
    broken = noise[0].clone()
    broken[21] = torch.nan
    before, _ = loop.run(state, tuple(n[:21] for n in noise), index[:21])
    for between in (1, 16):
        reached, seen = loop.xla.steps(state.flat(), [broken, noise[1], index], loop._columns, between_looks=between)
        assert torch.equal(seen, values[:21]) and reached[0] == 21
        assert all(map(torch.equal, reached, before.flat()))


def test_a_small_program_is_one_kernel(double):
    """As everything between two calls of a library can be; the numbers are those of machine code, and a step that is not finite is the end there too."""
    pair, batch = pair_of("normal_normal"), batch_of("normal_normal")
    pair.initialise(batch)
    program = stage(pair, vb.Pathwise(), batch)
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    native, (loop, state) = (
        looped(pair, program, AveragedAdam(list(leaves.values()), lr=0.02), leaves, batch.args, backend=backend)
        for backend in ("native", "xla")
    )
    with vb.seeded(1):
        noise = draw_noise(program.sizes, 40, batch.args[0])
    right, elbos = native[0].run(state, noise)
    reached, values = loop.run(state, noise)
    (steps,) = loop.xla._steps.values()
    assert steps._jitted.one_kernel
    torch.testing.assert_close(values, elbos, rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(reached.flat(), right.flat(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)
    noise[0][21] = torch.nan
    reached, seen = loop.run(state, noise)
    assert torch.equal(seen, values[:21]) and reached.steps == 21


@pytest.mark.parametrize(
    "fn, one",
    [
        (lambda x: jnp.exp(x) @ x + lax.fori_loop(0, 9, lambda _, y: y + jnp.sin(y), x).sum(), True),
        (lambda x: x[:, None] @ x[None] @ jnp.outer(x, x), False),
        (lambda x: lax.cond(x[0] > 0, jnp.sort, jnp.exp, x), False),
        (lambda x: vmap(lambda y: jnp.linalg.cholesky(jnp.eye(3) + y))(x), False),
        (lambda x: x.at[jnp.arange(3)].add(x[:3]), False),
    ],
    ids=["loop", "matrices", "sorting", "decomposition", "scattering"],
)
def test_what_can_be_one_kernel(fn, one):
    """What a library is called for can't, be it ever so deep inside."""
    x = jnp.linspace(0.1, 0.9, 5)
    small, plain = Jitted(lambda x: (fn(x),), small=True), Jitted(lambda x: (fn(x),), small=False)
    assert jnp.allclose(small(x)[0], plain(x)[0], rtol=1e-5) and not plain.one_kernel
    assert small.one_kernel is one and jnp.array_equal(small(x)[0], small(x)[0])


def test_a_row_out_of_range_is_no_number(double):
    _, loop, state, noise, index = both("Adam")
    index = index.clone()
    index[3, 0] = 12
    reached, values = loop.run(state, noise, index)
    assert len(values) == 3 and reached.steps == 3


def test_one_step_overwrites_the_state(double):
    """As `SVI.step` takes it."""
    _, loop, state, noise, index = both("Adam")
    state = state.filled([tensor.clone() for tensor in state.flat()])
    right, values = loop.run(state, tuple(n[:1] for n in noise), index[:1])
    rows = [n[0] for n in noise]
    value, _ = loop.xla(*state.flat(), *rows, index[0], *loop._columns)
    torch.testing.assert_close(value, values[0], rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(state.flat(), right.flat(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)
