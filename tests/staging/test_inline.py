"""A captured graph that is copied into a larger one gives the same program as one that is traced once more, to the last character."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import vbayes as vb
from vbayes.estimators import resolve
from vbayes.pair.problem import Problem
from vbayes.staging import inline, stage
from vbayes.staging import trace as tracer
from vbayes.staging.loop import Loop
from vbayes.staging.machine_code import simplified
from vbayes.staging.optimizers import Updates
from vbayes.staging.record import overwrites, record
from vbayes.staging.step import LoopState


def chain(y):
    x = y.new_zeros(())
    for t in range(3):
        x = pyro.sample(f"x{t}", dist.Normal(x, 1.0))
        pyro.sample(f"y{t}", dist.Normal(x, 1.0), obs=y[0, t])


def chains_guide(y):
    m = pyro.param("m", lambda: torch.zeros(3))
    scale = torch.stack([pyro.param("s", lambda: torch.tensor(0.1)).exp()] * 3)
    for t in range(3):
        pyro.sample(f"x{t}", dist.Normal(m[t], scale[t]))


CASES = {
    "a time loop": (lambda: vb.Pair(chain, chains_guide), torch.ones(1, 3), "trace"),
    "schools": (vb.pairs.eight_schools, vb.data.eight_schools(), "stl"),
    "a network": (lambda: vb.pairs.vae(6, 2, 3), torch.ones(4, 6), "iwae"),
}


def source(make, data, estimator):
    problem = Problem.of(make(), data, device="cpu")
    pair, batch = problem.pair, problem.data.batch(problem.pair.model)
    with pair.scope():
        leaves = pair.leaves
        program = stage(pair, resolve(estimator), batch)
        updates = Updates.of(dict.fromkeys(leaves, torch.optim.Adam(leaves.values())), leaves, program.still)
        steps, states = updates.read()
        parameters = {name: leaf.detach() for name, leaf in leaves.items()}
        loop = Loop(program, updates.rules, LoopState(steps, parameters, states, pair.buffers), batch.args)
    return loop.native.source


@pytest.mark.parametrize("case", ["a time loop", *(pytest.param(c, marks=pytest.mark.slow) for c in list(CASES)[1:])])
def test_the_same_program(case, monkeypatch):
    made = []
    decompose = inline.decomposed

    def noted(*given):
        made.append(decompose(*given))
        return made[-1]

    monkeypatch.setattr(inline, "decomposed", noted)
    copied = source(*CASES[case])
    assert made and all(each is not None for each in made)
    for module in (inline, tracer):  # all of it by `make_fx`
        monkeypatch.setattr(module, "decomposed", lambda *given, **options: None)
    assert source(*CASES[case]) == copied


def test_one_that_overwrites_says_so():
    """Then it is copied as it is, and made functional as a whole."""

    def fn(x):
        y = x.clone()
        y[0] = 2.0
        return [y.sum()]

    graph = make_fx(fn)(torch.ones(3))
    with pytest.raises(inline.Overwrites):
        inline.decomposed(graph, {})
    assert any(map(overwrites, inline.decomposed(graph, {}, True).graph.nodes))


def test_a_captured_program_that_overwrites_is_made_functional_once(monkeypatch):
    def fn(x):
        y = x.clone()
        y[0] = 2.0
        return [y * 3.0]

    x, calls = torch.arange(4.0), []
    graph = record(fn, x)
    monkeypatch.setattr(inline, "record", lambda *given: calls.append(1) or record(*given))
    for _ in range(2):
        made = simplified(inline.inlined(graph), [x])
        assert torch.equal(made(x + 1.0)[0], fn(x + 1.0)[0]) and not any(map(overwrites, made.graph.nodes))
    assert len(calls) == 1


def test_operations_of_one_kind_are_decomposed_once(monkeypatch):
    seen = []
    rule = inline._rule
    monkeypatch.setattr(inline, "_rule", lambda node, *given: seen.append(node) or rule(node, *given))
    op = torch.ops.aten.silu.default

    def fn(x, y):
        return [torch.ops.aten.silu(x), torch.ops.aten.silu(y), torch.ops.aten.silu(y[:2])]

    x, y = torch.randn(3, generator=torch.Generator().manual_seed(0)), torch.ones(3)
    graph = make_fx(fn)(x, y)
    for node in graph.graph.nodes:
        node.meta.setdefault("val", x)
    made = inline.decomposed(graph, {op: lambda x: x * torch.sigmoid(x)})
    assert all(node.target is not op for node in made.graph.nodes)
    kinds = {tuple(each.meta["val"].shape) for node in seen for each in node.all_input_nodes}
    assert len(seen) == len(kinds)
    for mine, right in zip(made(x, y), fn(x, y), strict=True):
        torch.testing.assert_close(mine, right)


def test_a_constant_that_stands_in_several_places():
    """A tensor that is held under two names counts once among a module's buffers."""
    root, made = torch.nn.Module(), torch.fx.Graph()
    x = made.placeholder("x")
    for name, value in (
        ("one", held := torch.tensor(2.0)),
        ("two", held),
        ("three", torch.tensor(5.0)),
        ("four", torch.tensor(7.0)),
    ):
        root.register_buffer(name, value)
        x = made.call_function(torch.ops.aten.add.Tensor, (x, made.get_attr(name)))
    made.output([x])
    flat = inline.decomposed(torch.fx.GraphModule(root, made), {})
    assert flat(torch.tensor(0.0)) == [torch.tensor(16.0)]
