"""Many steps in one call: torch.optim's own numbers, minibatches, and no step into what is not finite."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam

import vbayes as vb
from tests.models import binary, small_vae
from tests.quick import some_quick
from vbayes.staging import draw_noise, stage
from vbayes.staging.averaged_adam import AveragedAdam
from vbayes.staging.cuda_graph import Replay
from vbayes.staging.loop import Loop
from vbayes.staging.optimizers import Updates, update_for
from vbayes.staging.step import LoopState

OPTIMISERS = {
    "Adam": (torch.optim.Adam, {"lr": 0.02}),
    "Adam with decay": (torch.optim.Adam, {"lr": 0.02, "weight_decay": 0.1, "betas": (0.8, 0.95)}),
    "AdamW": (torch.optim.AdamW, {"lr": 0.02, "weight_decay": 0.2}),
    "SGD": (torch.optim.SGD, {"lr": 1e-3}),
    "SGD with momentum": (torch.optim.SGD, {"lr": 1e-3, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}),
    "SGD of Nesterov": (torch.optim.SGD, {"lr": 1e-3, "momentum": 0.9, "nesterov": True}),
    "Adagrad": (torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.1}),
    "ClippedAdam": (ClippedAdam, {"lr": 0.02, "lrd": 0.99, "clip_norm": 3.0, "weight_decay": 0.1}),
    "ClippedAdam, centred": (ClippedAdam, {"lr": 0.02, "centered_variance": True}),
    "RMSprop": (torch.optim.RMSprop, {"lr": 0.01}),
    "AveragedAdam": (AveragedAdam, {"lr": 0.02}),
    "RMSprop, centred": (torch.optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.5, "weight_decay": 0.1}),
}


def looped(pair, program, optimizer, leaves, columns, size=None, *, compiled=True, backend="auto"):
    """A loop, and its state before the first step."""
    updates = Updates.of(dict.fromkeys(leaves, optimizer), leaves)
    steps, states = updates.read()
    state = LoopState(steps, pair.parameters, states, program.buffers)
    state = state.filled([tensor.clone() for tensor in state.flat()])  # some optimisers hold theirs already
    return Loop(program, updates.rules, state, columns, size, compiled=compiled, backend=backend), state


@pytest.mark.parametrize("compiled", some_quick([True, False], [True]), ids=["compiled", "captured"])
@pytest.mark.parametrize("case", some_quick(OPTIMISERS, ["Adam", "SGD of Nesterov", "Adagrad", "ClippedAdam", "AveragedAdam", "RMSprop, centred"]))  # fmt: skip
def test_a_hundred_steps_are_those_of_torch(case, compiled, double):
    constructor, options = OPTIMISERS[case]
    data = binary(12).double()
    pair = small_vae().initialise(vb.Batch((data,)))
    program = stage(pair, vb.Pathwise(), vb.Batch((data[:4],), 12))
    with vb.seeded(1):
        noise = draw_noise(program.sizes, 100, data)
        index = torch.stack([torch.randperm(12)[:4] for _ in range(100)])
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    optimizer = constructor(list(leaves.values()), **options)
    loop, state = looped(pair, program, optimizer, leaves, (data,), 4, compiled=compiled)
    elbos = []
    for i in range(100):
        gradients, value = program(
            {k: v.detach() for k, v in leaves.items()}, (noise[0][i], noise[1][i]), data[index[i]]
        )
        for name, leaf in leaves.items():
            leaf.grad = -gradients[name]
        optimizer.step()
        elbos.append(value)
    assert (loop.native is not None) is compiled, loop.why_not
    reached, values = loop.run(state, noise, index)
    assert reached.steps == 100
    torch.testing.assert_close(values, torch.stack(elbos), rtol=1e-10, atol=1e-10)
    for name, leaf in leaves.items():
        torch.testing.assert_close(reached.parameters[name], leaf.detach(), rtol=1e-10, atol=1e-10)
        for key, mine in reached.optimizer[name].items():
            if key == "lr":
                assert float(mine) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
                continue
            torch.testing.assert_close(mine, optimizer.state[leaf][key], rtol=1e-10, atol=1e-12)
    # In parts it is the same to the last bit, and what was handed in stays.
    part, _ = loop.run(state, tuple(n[:33] for n in noise), index[:33])
    whole, _ = loop.run(part, tuple(n[33:] for n in noise), index[33:])
    assert state.steps == 0 and all(torch.equal(a, b) for a, b in zip(whole.flat(), reached.flat(), strict=True))


def test_what_has_no_rule_is_left_to_torch():
    leaf = [torch.zeros(1, requires_grad=True)]
    assert update_for(torch.optim.NAdam(leaf)) is None
    assert update_for(torch.optim.Adam(leaf, amsgrad=True)) is None
    assert update_for(torch.optim.SGD([{"params": leaf}, {"params": [torch.ones(1)], "lr": 1.0}])) is None


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "captured"])
def test_a_step_that_is_not_finite_is_not_taken(compiled):
    def model(x):
        w = pyro.param("w", lambda: torch.tensor(20.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, torch.sqrt(w)), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))

    x = torch.tensor([0.1, -0.2])
    pair = vb.Pair(model, guide).initialise(vb.Batch((x,)))
    program = stage(pair, vb.Pathwise(), vb.Batch((x,)))
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    loop, state = looped(pair, program, torch.optim.Adam(leaves.values(), lr=7.0), leaves, (x,), compiled=compiled)
    with vb.seeded(0):
        noise = draw_noise(program.sizes, 200, x)
    reached, values = loop.run(state, noise)
    assert 0 < len(values) == int(reached.steps) < 200
    assert torch.isfinite(values).all() and torch.isfinite(reached.parameters["w"])


def test_an_index_out_of_range_is_an_error():
    data = binary(12)
    pair = small_vae().initialise(vb.Batch((data,)))
    program = stage(pair, vb.Pathwise(), vb.Batch((data[:4],), 12))
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    loop, state = looped(pair, program, torch.optim.Adam(leaves.values()), leaves, (data,), 4)
    with vb.seeded(0):
        noise = draw_noise(program.sizes, 2, data)
    with pytest.raises(IndexError, match="out of the range"):
        loop.run(state, noise, torch.tensor([[0, 1, 2, 3], [0, 1, 2, 12]]))


def test_a_replay_gives_the_numbers_of_the_loop(double):
    """What a CUDA graph records, run as it is: on the CPU, step by step."""
    data = binary(12).double()
    pair = small_vae().initialise(vb.Batch((data,)))
    program = stage(pair, vb.Pathwise(), vb.Batch((data[:4],), 12))
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    loop, state = looped(pair, program, torch.optim.Adam(leaves.values()), leaves, (data,), 4)
    with vb.seeded(1):
        noise = draw_noise(program.sizes, 9, data)
        index = torch.stack([torch.randperm(12)[:4] for _ in range(9)])
    right, values = loop.run(state, noise, index)
    rows = [noise[0][0], noise[1][0], index[0]]
    replay = Replay(loop._launched, state.flat(), rows, (data,), capacity=20, recorded=False)
    for _ in range(2):  # the second time it starts over
        reached, seen = replay.run(state.flat(), [*noise, index])
        torch.testing.assert_close(seen, values, rtol=1e-10, atol=1e-10)
        for mine, theirs in zip(reached, right.flat(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
    broken = noise[0].clone()
    broken[5] = torch.nan
    reached, seen = replay.run(state.flat(), [broken, noise[1], index])
    assert len(seen) == 5 and reached[0] == 5
    torch.testing.assert_close(seen, values[:5], rtol=1e-10, atol=1e-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_graph():
    data = binary(12)
    on_cpu, on_cuda = (
        vb.fit(small_vae(), data, "stl", steps=20, batch_size=4, compile=True, device=device, progress=False)
        for device in ("cpu", "cuda")
    )
    assert all(v.is_cuda and v.isfinite().all() for v in on_cuda.pair.parameters.values())
    assert on_cuda.history.elbo.mean() == pytest.approx(on_cpu.history.elbo.mean(), rel=0.1)
