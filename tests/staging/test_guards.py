"""What is read out of arguments is noted; what is read out of anything else is refused; and nobody gets a wrong number."""

from __future__ import annotations

import random
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch.nn.utils.rnn import pack_padded_sequence

import vbayes as vb
from vbayes.errors import CaptureFailed
from vbayes.staging import Replicated, draw_noise, faithful, replicate, stage
from vbayes.staging.known import Known

X = torch.tensor([3.0, -1.0, 2.0, 0.5])


def pair_of(scale):
    """A pair whose likelihood has a scale by some function of data, draw and parameter."""

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, scale(x, z, pyro.param("noise", torch.tensor(1.0)))), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 1.0))

    return vb.Pair(model, guide, name="reader").initialise(vb.Batch((X,)))


READS = {
    "a branch": lambda x, z, s: 1.0 if (x > 2.5).any() else 2.0,
    "an assertion": lambda x, z, s: 1.0 if (x >= -1).all() else 0.0,
    "float": lambda x, z, s: float(x.max()),
    "int": lambda x, z, s: int(x.max()),
    "a place in a list": lambda x, z, s: [0.5, 1.0, 1.5, 2.0][(x > 0).sum().item()],
    "a slice": lambda x, z, s: x[: x.max().long()].std(),
    "tolist": lambda x, z, s: max(x.tolist()),
    "numpy": lambda x, z, s: float(x.numpy().max()),
    "equal": lambda x, z, s: 2.0 if torch.equal(x, x.sort().values) else 1.0,
    "what is written over afterwards": lambda x, z, s: (lambda y: float(y.max()) + 0.0 * y.add_(1.0).sum())(x.clone()),
    "a branch in a branch": lambda x, z, s: 1.0 if x.max() > 2.5 and x.min() < 0 else 2.0,
}
PLACES = {  # whose shapes depend on values
    "what is there": lambda x, z, s: x[~torch.isnan(x)].std() + x[:2].mean(),
    "a gradient at some places": lambda x, z, s: 1.0 + (z * x)[x > 0].sum() ** 2,
    "a number put at some places": lambda x, z, s: 1.0 + (x * z).index_put((x > 1,), z).square().mean(),
    "how many there are": lambda x, z, s: float(len(x.unique())) + (x > 0).nonzero().sum(),
}
OTHERS = {  # beside a constant: parameter, draw, what neither would tell
    "a branch on a draw": lambda x, z, s: 1.0 if z > 0 else 2.0,
    "a whole number of a draw": lambda x, z, s: float((z > 0).long() + 1),
    "a parameter's item": lambda x, z, s: float(s.detach().item()),
    "a list of a parameter": lambda x, z, s: s.detach().tolist(),
    "an array of a draw": lambda x, z, s: 1.0 + abs(float(z.detach().numpy())),
    "data moved by a draw": lambda x, z, s: float((x + 0.0 * z).detach().max()),
}


def run(program, pair, x):
    with vb.seeded(3):
        normals, uniforms = draw_noise(program.sizes, 1, torch.zeros(()))
    gradients, value = program(dict(pair.parameters), (normals[0], uniforms[0]), x)
    return torch.stack([value, *(g for g in gradients.values())])


@pytest.mark.parametrize(
    ("name", "estimator"),
    [
        *((name, vb.Trace()) for name in READS),
        ("a branch", vb.STL(num_particles=3)),
        ("tolist", vb.STL(num_particles=3)),
    ],
)
def test_what_is_read_of_arguments(name, estimator):
    pair, same, other = pair_of(READS[name]), X.clone(), torch.tensor([-2.0, -1.5, 0.2, 0.3])
    program = stage(pair, estimator, vb.Batch((X,)))
    nothing = torch.zeros(0)
    assert program.guards and "test_guards.py" in program.guards.line
    assert bool(program.guards.hold(nothing, (same,))) and program.guards.values(nothing, (same,)) == program.guards.own
    assert not program.guards.hold(nothing, (other,)) and program.guards.values(nothing, (other,)) != program.guards.own
    assert run(program, pair, same).isfinite().all()
    assert run(program, pair, other)[:2].isnan().all()  # nobody takes it for right, nor steps by it


@pytest.mark.parametrize("name", PLACES)
def test_places_by_a_mask_are_told_as_numbers(name):
    """Held against Pyro where it is captured; then machine code is."""
    pair = pair_of(PLACES[name])
    program = stage(pair, vb.Trace(), vb.Batch((X,)))
    assert program.guards and not any(
        torch.Tag.dynamic_output_shape in getattr(n.target, "tags", ()) and n.target is not torch.ops.aten.index.Tensor
        for n in program.graph.graph.nodes
    )
    replicated = Replicated(program, pair.parameters, (X,), compiled=True)
    assert replicated.native is not None
    with vb.seeded(3):
        noise = draw_noise(program.sizes, 2, X)
    (mine,) = replicated(pair.parameters, noise, (X,))
    theirs, _ = replicate(program, pair.parameters, noise, (X,))
    torch.testing.assert_close(mine, torch.stack(list(theirs.values()), 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OTHERS)
def test_what_else_is_read_is_refused_with_its_line(name):
    with pytest.raises(
        vb.errors.CaptureFailed,
        match=r"'reader' can't be captured \(line \d+ of test_guards.py: .*a value is read out of a tensor",
    ) as caught:
        stage(pair_of(OTHERS[name]), vb.Trace(), vb.Batch((X,)))
    assert "aten" not in str(caught.value)


def test_what_is_written_by_another_way_counts():
    """A number written into a tensor through a part of it is not seen where the whole is looked at."""
    drawn = lambda x, z, s: (lambda made: (made.__setitem__(0, z), float(made.detach().max()))[1])(x.clone())  # noqa: E731
    with pytest.raises(vb.errors.CaptureFailed, match="a value is read"):
        stage(pair_of(drawn), vb.Trace(), vb.Batch((X,)))


def test_constants_are_no_guards():
    program = stage(pair_of(lambda x, z, s: float(torch.arange(3).max()) + int(len(x))), vb.Trace(), vb.Batch((X,)))
    assert program.guards is None


def test_items_that_stay_tensors_are_no_guards():
    program = stage(pair_of(lambda x, z, s: 1.0 + 0.1 * (x > 0).sum().item()), vb.Trace(), vb.Batch((X,)))
    assert program.guards is None


def test_many_minibatches_at_once():
    program = stage(pair_of(READS["a branch"]), vb.Trace(), vb.Batch((X,)))
    index = torch.tensor([[0, 1], [1, 2], [3, 0], [2, 3]])
    assert program.guards.hold_in(torch.zeros(4, 0), (X,), index).tolist() == [True, False, True, False]


def test_what_is_no_number_stays_the_same():
    """As the gaps of data that a model looks at."""
    gaps = torch.tensor([3.0, float("nan"), 2.0, 0.5])
    pair = pair_of(lambda x, z, s: 1.0 + sum(v != v for v in x.tolist()))
    guards = stage(pair, vb.Trace(), vb.Batch((X,))).guards
    assert guards.hold(torch.zeros(0), (X,)) and not guards.hold(torch.zeros(0), (gaps,))
    guards = replace(guards, kept=(gaps,))
    assert guards.hold(torch.zeros(0), (gaps.clone(),)) and not guards.hold(torch.zeros(0), (X,))
    guards = replace(guards, kept=(gaps[1],), graph=lambda uniforms, x: (x[1],))
    assert guards.hold(torch.zeros(0), (gaps,)) and not guards.hold(torch.zeros(0), (X,))


class Counter:
    def __init__(self):
        self.calls = 0

    def __call__(self, x, z, s):
        self.calls += 1
        return 1.0 + self.calls % 3


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (lambda x, z, s: 1.0 + random.random(), "draws random numbers with Python"),
        (lambda x, z, s: 1.0 + float(np.random.rand()), "draws random numbers with NumPy"),
        (Counter(), r"`\w+.calls` changes at each run"),
    ],
    ids=["Python", "NumPy", "a counter"],
)
def test_what_changes_by_itself_is_named(scale, said):
    with vb.seeded(0), pytest.raises(vb.errors.CaptureFailed, match=f"'reader' can't be captured: .*{said}"):
        stage(pair_of(scale), vb.Trace(), vb.Batch((X,)))


def splines(bound):
    def model():
        pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    with vb.seeded(0):
        flow = dist.transforms.Spline(3, count_bins=4, bound=bound)

    def guide():
        pyro.module("flow", flow)
        pyro.sample("z", dist.TransformedDistribution(dist.Normal(torch.zeros(3), 1.0).to_event(1), [flow]))

    return vb.Pair(model, guide, name="splines").initialise(vb.Batch(()))


@pytest.mark.parametrize("estimator", [vb.Pathwise(), vb.IWAE(num_particles=4)], ids=repr)
def test_places_that_a_draw_decides_on_are_chosen_one_by_one(estimator):
    """`y[outside] = x[outside]`, as Pyro's splines have it: none are outside when it is captured, some are later, and the shapes of none were built in."""
    pair, batch = splines(0.5), vb.Batch(())
    program = stage(pair, estimator, batch)
    assert not any(torch.Tag.dynamic_output_shape in getattr(n.target, "tags", ()) for n in program.graph.graph.nodes)
    assert all(faithful(pair, estimator, program, batch, seed) for seed in range(10, 15))
    with vb.seeded(0):
        normals, uniforms = draw_noise(program.sizes, 20, torch.zeros(()))
    assert replicate(program, dict(pair.parameters), (normals, uniforms), ())[1].isfinite().all()


SHAPES = {
    "a sum": lambda z, w: z[z > 0].sum(),
    "put elsewhere": lambda z, w: w.index_put((z > 0,), z[z > 0].exp()).sum(),
    "put by another mask": lambda z, w: w.clone().__setitem__(w.detach() > -1.0, z[z > -9.0]) or w.sum(),
    "numbers": lambda z, w: z[(z > 0).nonzero()[:, 0]].sum(),
    "how many": lambda z, w: z.sum() * len(z[z > 0]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_hang_on_a_draw(name):
    """Are refused in the line that they are in: the gradient of such an operation has them built in."""

    def model():
        pyro.sample("z", dist.Normal(torch.zeros(6), 1.0).to_event(1))

    def guide():
        z = pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(6)), 1.0).to_event(1))
        pyro.factor("f", SHAPES[name](z, pyro.param("w", torch.ones(6)).clone()), has_rsample=False)

    with pytest.raises(CaptureFailed, match="test_guards.py: `.*a value is read out of a tensor"):
        stage(vb.Pair(model, guide).initialise(vb.Batch(())), vb.Trace(), vb.Batch(()))


def test_a_mask_that_a_module_keeps_is_no_draw():
    """It stays what it was, and the program with it."""

    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.tensor([True, False, True]))

        def forward(self, x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0).expand([2]).to_event(1), obs=x[self.seen])

    pair = vb.Pair(Model(), pair_of(lambda x, z, s: 1.0).guide).initialise(vb.Batch((X[:3],)))
    program = stage(pair, vb.Trace(), vb.Batch((X[:3],)))
    assert faithful(pair, vb.Trace(), program, vb.Batch((X[:3] + 1.0,)), 7)


def recurrent(in_order=False):
    """A guide by a recurrent network over padded sequences, as that of Pyro's deep Markov model."""
    with vb.seeded(0):
        network = torch.nn.RNN(1, 2, batch_first=True)

    def model(x, lengths):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            there = torch.arange(x.shape[1]) < lengths[:, None]
            pyro.sample("x", dist.Normal(z[:, None], 1.0).mask(there).to_event(1), obs=x)

    def guide(x, lengths):
        pyro.module("network", network)
        packed = pack_padded_sequence(x[..., None], lengths, batch_first=True, enforce_sorted=in_order)
        _, last = network(packed)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(last[0, :, 0], 1.0))

    return vb.Pair(model, guide, name="recurrent")


def test_lengths_of_packed_sequences_are_read():
    """The network's operations hang on them: the program is for those, and with too many different ones Pyro takes the steps and says in which line they are read."""
    x, lengths = torch.arange(36.0).reshape(12, 3) / 36, torch.tensor([3, 1, 2] * 4)
    pair, first = recurrent(), vb.Batch((x[:3], lengths[:3]))
    program = stage(pair.initialise(first), vb.Trace(), first)
    assert program.guards is not None and faithful(pair, vb.Trace(), program, first, 3)
    assert not program.guards.hold(torch.zeros(0), (x[:3], torch.tensor([3, 3, 1])))
    options = {"steps": 30, "batch_size": 4, "progress": False, "device": "cpu"}
    rows = lengths.argsort(descending=True)
    whole = vb.fit(recurrent(True), (x[rows], lengths[rows]), "trace", steps=2, progress=False, compile="native")
    assert whole.engine == "native", "what a packed sequence is made of are elements at places that are known"
    with pytest.warns(
        UserWarning, match="reads values of its arguments .*pack_padded_sequence.* more than 8 different"
    ):
        fit = vb.fit(recurrent(), (x, lengths), "trace", compile="torch", **options)
    assert fit.engine.startswith("Pyro") and fit.steps == 30


def test_each_operation_is_looked_at_once():
    """However many values are read: of a chain of n operations with n reads among them, n were looked through for each."""

    def looked(count):
        def model(x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            for _ in range(count):
                x = x + 1.0
                assert x.max() > -5.0
            pyro.sample("x", dist.Normal(z, 1.0).expand(x.shape).to_event(1), obs=x)

        pair = vb.Pair(model, pair_of(lambda x, z, s: 1.0).guide).initialise(vb.Batch((X,)))
        with patch.object(Known, "_look", autospec=True, side_effect=Known._look) as look:
            program = stage(pair, vb.Trace(), vb.Batch((X,)))
        assert len(program.guards.kept) == count
        return look.call_count

    few, many = looked(5), looked(20)
    assert many < 4 * few
