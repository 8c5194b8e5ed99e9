"""The sites of a run in their order, and particles that are chosen anew between them."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

import vbayes as vb
from tests.models import X, mixed, schools_by_hand
from vbayes.drawing.order import steps_of
from vbayes.staging import Recorder

pytestmark = pytest.mark.usefixtures("double")
SERIES = torch.tensor([[0.9, -0.4, 0.3], [-1.2, 0.8, 0.5]], dtype=torch.float64)


def with_memory() -> vb.Pair:
    """A model that remembers: its state h is in a variable of its own, and so is the guide's; two latents a step, and one of all steps, for a single series."""

    def model(x):
        a, h = pyro.sample("a", dist.Normal(0.0, 1.0)), torch.zeros(())
        for t in range(len(x)):
            h = 0.5 * h + pyro.sample(f"z{t}", dist.Normal(torch.tanh(h) + a, 1.0))
            h = h * pyro.sample(f"s{t}", dist.LogNormal(h, 0.3))
            pyro.sample(f"x{t}", dist.Normal(h, 0.8), obs=x[t])

    def guide(x):
        loc = pyro.param("loc", lambda: torch.tensor(0.3))
        a = pyro.sample("a", dist.Normal(loc, 0.7))
        h = a
        for t in range(len(x)):
            h = loc * h + pyro.sample(f"z{t}", dist.Normal(loc * h + 0.4 * x[t], 0.9))
            pyro.sample(f"s{t}", dist.LogNormal(0.2 * h, 0.5))

    return vb.Pair(model, guide).initialise(vb.Batch((SERIES[0],)))


def filtered(x, loc, noise, chosen):
    """The same by hand: log-weights after each step, with all that a particle is handed on at once.

    Args:
        noise: (K, 7): of a, and of z and s in each step.
        chosen: After each step but the last, (K,) whom to go on from.
    """
    a = loc + 0.7 * noise[:, 0]
    log_w = Normal(0.0, 1.0).log_prob(a) - Normal(loc, 0.7).log_prob(a)
    h, g, found = torch.zeros_like(a), a, []
    for t in range(len(x)):
        q_z = Normal(loc * g + 0.4 * x[t], 0.9)
        z = q_z.loc + 0.9 * noise[:, 1 + 2 * t]
        log_w = log_w + Normal(h.tanh() + a, 1.0).log_prob(z) - q_z.log_prob(z)
        g, h = loc * g + z, 0.5 * h + z
        s = (0.2 * g + 0.5 * noise[:, 2 + 2 * t]).exp()
        log_w = log_w + dist.LogNormal(h, 0.3).log_prob(s) - dist.LogNormal(0.2 * g, 0.5).log_prob(s)
        h = h * s
        log_w = log_w + Normal(h, 0.8).log_prob(x[t])
        found.append(log_w)
        if t < len(x) - 1:
            i = chosen[t]
            a, h, g, log_w = a[i], h[i], g[i], 0.5 * log_w
    return found


def test_a_particle_goes_on_from_all_that_its_ancestor_held():
    """Log-weights and their gradient, for chosen ancestors, with what is in the model's and the guide's own variables; handed on halved, to show."""
    pair, chosen = with_memory(), [torch.tensor([2, 2, 0]), torch.tensor([1, 0, 1])]
    with vb.seeded(0):
        noise = torch.randn(3, 7)
    left = iter(chosen)
    with pair.scope(), Recorder((noise.T.flatten(), torch.zeros(0))):
        drawn = vb.draw(pair, vb.Batch((SERIES[0],)), 3, {"steps"}, resample=lambda log_w: (next(left), 0.5 * log_w))
        loc = pair.leaves["loc"]
        right = filtered(SERIES[0], loc, noise, chosen)
        assert [[t.name for t in step.terms] for step in drawn.steps] == [
            ["a", "z0", "s0", "x0"],
            ["z1", "s1", "x1"],
            ["z2", "s2", "x2"],
        ]
        for step, log_w, ancestors in zip(drawn.steps, right, [*chosen, None], strict=True):
            torch.testing.assert_close(step.log_w, log_w)
            assert step.ancestors is ancestors
        mine, theirs = (torch.autograd.grad(each[-1].sum(), loc)[0] for each in ([s.log_w for s in drawn.steps], right))
        torch.testing.assert_close(mine, theirs)


def test_each_datum_has_ancestors_of_its_own():
    """Two rows, chosen apart: each is what it would be if the other weren't there."""
    pair, chosen = vb.pairs.state_space(2).initialise(vb.Batch((SERIES[:, :2],))), torch.tensor([[0, 1], [0, 0]])
    with pair.scope(), vb.seeded(0), torch.no_grad():
        first, second = vb.draw(pair, vb.Batch((SERIES[:, :2],)), 2, {"steps"}, resample=lambda w: (chosen, w)).steps
        (z1, _), (z2, x2) = first.terms, second.terms
        before = z1.value.squeeze(-1).gather(0, chosen)
        torch.testing.assert_close(z2.log_p, Normal(0.8 * before, 0.7).log_prob(z2.value.squeeze(-1)))
        torch.testing.assert_close(x2.value.squeeze(-1), SERIES[:, 1].expand(2, 2))
        torch.testing.assert_close(second.log_w, first.log_w + z2.log_p - z2.log_q + x2.log_p)


def walk(order: list[str], *, auto: type | None = None) -> vb.Pair:
    """θ, z1, x1, z2, x2, z3, x3 with a guide that goes another way."""

    def model():
        z = pyro.sample("theta", dist.Normal(0.0, 1.0))
        for t in "123":
            z = pyro.sample(f"z{t}", dist.Normal(z, 1.0))
            pyro.sample(f"x{t}", dist.Normal(z, 1.0), obs=torch.tensor(0.5))

    def guide():
        for name in order:
            pyro.sample(name, dist.Normal(0.0, 1.0))

    return vb.Pair(model, auto(model) if auto else guide).initialise(vb.Batch(()))


WAYS = {
    "theta z1 z2 z3": "theta z1 x1 | z2 x2 | z3 x3",
    "z1 theta z2 z3": "z1 theta x1 | z2 x2 | z3 x3",
    "theta z3 z2 z1": "theta z3 z2 z1 x1 x2 x3",
    "z2 theta z1 z3": "z2 theta z1 x1 x2 | z3 x3",
    "theta z1 z3 z2": "theta z1 x1 | z3 z2 x2 x3",
}


@pytest.mark.parametrize(("order", "right"), WAYS.items())
def test_steps_end_where_both_have_the_same_latents(order, right):
    pair = walk(order.split())
    with pair.scope(), vb.seeded(0):
        drawn = vb.draw(pair, vb.Batch(()), 2, {"steps"}, resample=lambda w: (torch.tensor([1, 1]), w))
        flat = vb.draw(pair, vb.Batch(()), 2, {"terms"})
    assert " | ".join(" ".join(term.name for term in step.terms) for step in drawn.steps) == right
    assert " ".join(term.name for term in flat.terms) == right.replace("| ", "")
    assert [term.observed for term in flat.terms] == [term.name[0] == "x" for term in flat.terms]


@pytest.mark.parametrize("auto", [AutoNormal, AutoMultivariateNormal])
def test_an_autoguides_own_draws_come_with_the_latents_that_they_make(auto):
    """Site by site with AutoNormal; a joint draw makes all latents, and so is weighed in the first step."""
    pair = walk([], auto=auto)
    with pair.scope(), vb.seeded(0):
        steps = vb.draw(pair, vb.Batch(()), 3, {"steps"}).steps
        terms = [term for step in steps for term in step.terms]
        names = [term.name for term in terms]
        assert len(steps) == 3 and names.index("x1") < names.index("z2")
        if auto is AutoNormal:
            assert names.index("x1") < names.index("z2_unconstrained") < names.index("z2")
        alone = next(term for term in terms if term.name not in ("theta", *"z1 z2 z3 x1 x2 x3".split()))
        assert (alone.log_p == 0).all() and (alone.log_q != 0).all()


@pytest.mark.parametrize(("make", "batch", "count"), [
    (mixed, (X,), 3), (schools_by_hand, tuple(vb.data.eight_schools().tensors.values()), 3), (lambda: vb.pairs.state_space(3), (SERIES,), 20), (with_memory, (SERIES[0],), 20),
])  # fmt: skip
def test_terms_add_up(make, batch, count):
    """To log p and log q, drawn one by one and side by side; values are those of the sites."""
    batch = vb.Batch(tuple(part.to(torch.float64) for part in batch))
    pair = make().initialise(batch)
    with pair.scope(), vb.seeded(0):
        drawn = vb.draw(pair, batch, count, {"terms", "log_p", "log_q"})
    for whole in ("log_p", "log_q"):
        parts = [getattr(term, whole) for term in drawn.terms]
        assert all(part.shape == (count, *drawn.local) for part in parts)
        torch.testing.assert_close(sum(parts), getattr(drawn, whole))
    assert all(term.value.shape[: 1 + len(drawn.local)] == (count, *drawn.local) for term in drawn.terms)


def test_what_has_no_order_is_refused():
    def comes_and_goes():
        first = pyro.sample("z1", dist.Normal(0.0, 1.0))
        pyro.sample("x1", dist.Normal(first, 1.0), obs=torch.tensor(0.5))
        pyro.sample("z2" if len(calls) < 2 else "z3", dist.Normal(0.0, 1.0))
        pyro.sample("x2", dist.Normal(0.0, 1.0), obs=torch.tensor(0.5))
        calls.append(first)

    def guide():
        pyro.sample("z1", dist.Normal(pyro.param("a", torch.tensor(0.0)), 1.0))
        pyro.sample("z2" if len(calls) < 2 else "z3", dist.Normal(0.0, 1.0))

    def draw(pair, **more):
        with pair.scope(), vb.seeded(0):
            vb.draw(pair, vb.Batch(()), 2, **{"needs": {"steps"}, **more})

    calls = []
    with pytest.raises(vb.errors.Unsuitable, match="'z2' occurred in one run but not in another"):
        calls.clear()
        draw(vb.Pair(comes_and_goes, guide))
    with pytest.raises(vb.errors.Unsuitable, match="guide lacks 'z3'"), pytest.warns(UserWarning, match="z3"):
        draw(walk(["theta", "z1", "z2"]))
    with pytest.raises(vb.errors.BadInput, match="'steps' and 'log_p'"):
        draw(walk(["theta", "z1", "z2", "z3"]), needs={"steps", "log_p"})
    for wrong in (lambda w: w, lambda w: (w, w), lambda w: (torch.tensor([0]), w)):
        with pytest.raises(vb.errors.BadEstimator, match="Wanted: two tensors of the shape"):
            draw(walk(["theta", "z1", "z2", "z3"]), resample=wrong)
    with pytest.raises(vb.errors.BadInput, match="noise='sobol'"):
        draw(walk(["theta", "z1", "z2", "z3"]), noise="sobol")


def test_a_run_has_steps_where_there_is_nothing_to_draw():
    def model():
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(0.5))

    q, p = (pyro.poutine.trace(fn).get_trace() for fn in (lambda: None, model))
    assert [list(step) for step in steps_of(q, p)] == [[[], ["x"]]]
