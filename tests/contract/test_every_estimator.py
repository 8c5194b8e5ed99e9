"""Every estimator on every pair with a known answer: the mean of its gradient and of its value, and its claims."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import math
import pickle

import pytest
import torch
from pyro.infer import ELBO

import vbayes as vb
from tests import tractable
from tests.models import X, binary, coin, mixed, schools_by_hand, small_vae
from tests.tractable import small, suits
from vbayes.estimators import name_of, resolve
from vbayes.estimators.objective import ELBO as ELBO_OBJECTIVE
from vbayes.estimators.objective import Objective, of_particles
from vbayes.estimators.remembering import with_memory
from vbayes.laboratory import moments
from vbayes.laboratory.bench import BLOCKS
from vbayes.laboratory.bias import bias
from vbayes.laboratory.replicas import Replicas
from vbayes.staging import Recorder, Replicated, draw_noise, eager, replicate, stage
from vbayes.validation import validation

pytestmark = pytest.mark.usefixtures("double")

BATCH = vb.Batch((X,))
LIMIT = 4.0  # standard errors; of several hundred tests on fixed seeds, one in fifty runs of the suite would meet more by chance


def suited(name: str, pair: str) -> bool:
    torch.set_default_dtype(torch.float64)
    try:
        return suits(small(name), tractable.pair_of(pair), tractable.batch_of(pair))
    finally:
        torch.set_default_dtype(torch.float32)


KNOWN = [
    name for name in vb.ESTIMATORS if name not in ("dais", "learned_dais", "fivo")
]  # their bounds have no table: tests.estimators.test_made_of_scores, test_fivo
EVERY = [(name, pair) for name, pair in itertools.product(KNOWN, tractable.PAIRS) if suited(name, pair)]
QUICK = {name: next(p for p in ("normal_normal", "three_bernoulli") if (name, p) in EVERY) for name in KNOWN}
QUICK["stratified"] = "bimodal"
# With a program several times as long (tests/estimators/test_relax.py has its identities), and twins, draw by draw, of STL and DisARM.
LONG = {"relax", "path_gradient", "arm", "fitted_quadratic"}
CASES = [
    pytest.param(name, pair, marks=() if pair == QUICK[name] and name not in LONG else pytest.mark.slow)
    for name, pair in EVERY
]
POWER = 7.0  # standard errors that an error of a tenth must make: enough draws for that, from a pilot
FEWEST, MOST = 20_000, 4_000_000


class Coarser(vb.Table):
    """Bounds of several particles to six digits, by a third of the pairs of nodes: the draws have two."""

    def expected(self, bound_of, num_particles):
        return super().expected(bound_of, num_particles, negligible=1e-8)


@functools.cache
def exact(pair_name: str, objective: Objective) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """An objective and its gradient, by summation; once for all estimators that follow it."""
    pair = tractable.pair_of(pair_name)
    with pair.scope():
        value = objective.truth(Coarser(**vars(tractable.table_of(pair_name, pair)))).sum()
        leaves = list(pair.leaves.values())
        gradients = torch.autograd.grad(objective.sign * value, leaves, allow_unused=True, materialize_grads=True)
    return value.detach(), gradients  # of what is lowered, the gradient comes out negated


@functools.cache
def truth(name: str, pair_name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The expected bound, the gradient of the objective, and which coordinates of that the estimator claims to follow."""
    estimator, pair, batch = small(name), tractable.pair_of(pair_name), tractable.batch_of(pair_name)
    objective, told = estimator.objective, estimator.bound
    by_draws = of_particles(told, estimator.bound_of, estimator.num_particles, "iid")
    own = {"ELBO": ELBO_OBJECTIVE, objective.name: objective}.get(told, by_draws)
    bound, _ = exact(pair_name, own)
    _, gradients = exact(pair_name, objective if objective.truth else own)
    leaves = pair.leaves
    parts = tractable.roles(pair, batch)
    claimed = [
        torch.full_like(
            g.reshape(-1), all(role in estimator.unbiased_in for role, names in parts.items() if leaf in names)
        )
        for leaf, g in zip(leaves, gradients, strict=True)
    ]
    return (
        objective.sign * bound,
        torch.cat([g.reshape(-1) for g in gradients]),
        torch.cat(claimed).bool(),
    )


@pytest.mark.parametrize(("name", "pair_name"), CASES)
def test_gradient_is_unbiased_and_value_the_bound(name, pair_name):
    """Coordinate by coordinate against the exact gradient; a tenth of its length more, and it would show."""
    bound, right, claimed = truth(name, pair_name)
    pair, batch = tractable.pair_of(pair_name), tractable.batch_of(pair_name)
    replicas = Replicas(pair, small(name), batch, compiled=True, backend="native")
    assert replicas.why_slow is None

    def blocks(count, size, first=0):
        for block in range(first, first + count):
            with vb.seeded(block):
                noise = draw_noise(replicas.sizes, size, X)
            yield replicas.gradients(pair, noise, block)

    pilot, _ = moments.variance(
        moments.collect(blocks(4, 1000, first=1000), right, 1000).select(claimed.nonzero().flatten())
    )
    wanted = pilot * (POWER / (0.1 * float(right[claimed].norm()))) ** 2 if claimed.any() else FEWEST
    size = math.ceil(min(max(wanted, FEWEST), MOST) / BLOCKS)
    drawn = moments.collect(blocks(BLOCKS, size), right, size)
    reached = drawn.sums.abs().sum(0) > 0
    assert reached[right.abs() > 1e-12].all()
    for i in claimed.nonzero().flatten():
        one = drawn.select(i[None])
        assert abs(bias(one, right[i][None], rounding=1e-10).z) < LIMIT, f"coordinate {i}"
    if claimed.any():
        wrong = right + 0.1 * right.norm() * claimed / claimed.sum() ** 0.5
        zs = [bias(drawn.select(i[None]), wrong[i][None]).z for i in claimed.nonzero().flatten()]
        assert max(map(abs, zs)) > LIMIT
    with vb.seeded(0):
        noise = draw_noise(replicas.sizes, 20_000, X)
        _, values = replicate(replicas.program, pair.parameters, noise, batch.args)
    assert abs(values.mean() - bound) < LIMIT * values.std() / len(values) ** 0.5 + 1e-10
    assert values.std() / len(values) ** 0.5 < 0.05 * max(1.0, float(bound.abs()) / 5)


BIASED = {
    "wake_sleep": "normal_normal",
    "tvo": "normal_normal",
    "gumbel_softmax": "three_bernoulli",
    "beta": "normal_normal",
    "sleep_phase": "normal_normal",
    "cubo": "normal_normal",
    "tail_adaptive": "normal_normal",
}


@pytest.mark.parametrize(("name", "pair_name"), BIASED.items())
def test_what_claims_no_unbiasedness_is_biased(name, pair_name):
    """Or the claim would be too modest."""
    _, right, claimed = truth(name, pair_name)
    pair, batch = tractable.pair_of(pair_name), tractable.batch_of(pair_name)
    replicas = Replicas(pair, small(name), batch, compiled=True)
    with vb.seeded(0):
        drawn = torch.cat(list(replicas.gradients(pair, draw_noise(replicas.sizes, 100_000, X), 0)))
    z = (drawn.mean(0) - right) / (drawn.std(0) / 100_000**0.5)
    assert z[~claimed].abs().max() > 6


@pytest.mark.slow
@pytest.mark.parametrize("pair_name", ["normal_normal", "linear_gaussian"])
def test_piwae_follows_the_looser_bound_in_the_guide(pair_name):
    """Its guide's gradient is that of the mean of its groups' bounds, by summation over pairs of nodes."""
    pair, batch = tractable.pair_of(pair_name), tractable.batch_of(pair_name)
    parts = tractable.roles(pair, batch)
    with pair.scope():
        table = tractable.table_of(pair_name, pair)
        leaves = pair.leaves
        looser = torch.autograd.grad(
            table.expected(vb.IWAE(2).bound_of, 2).sum(),
            list(leaves.values()),
            allow_unused=True,
            materialize_grads=True,
        )
    right = torch.cat([g.reshape(-1) for g in looser])
    alone = torch.cat(
        [torch.full_like(g.reshape(-1), n not in parts["model"]) for n, g in zip(leaves, looser, strict=True)]
    ).bool()
    replicas = Replicas(pair, vb.PIWAE(4, groups=2), batch)
    with vb.seeded(0):
        drawn = torch.cat(list(replicas.gradients(pair, draw_noise(replicas.sizes, 100_000, X), 0)))
    z = (drawn.mean(0) - right) / (drawn.std(0) / 100_000**0.5)
    assert alone.any() and z[alone].abs().max() < LIMIT


PAIRS = {
    "normal_normal": (vb.pairs.normal_normal, lambda: X),
    "coin": (coin, lambda: X),
    "mixed": (mixed, lambda: X),
    "schools": (schools_by_hand, None),
    "vae": (small_vae, lambda: binary(4).to(torch.get_default_dtype())),
}


def batch_of(pair: str) -> vb.Batch:
    data = PAIRS[pair][1]
    if data:
        return vb.Batch((data().to(torch.get_default_dtype()),))
    y, sigma = vb.data.eight_schools().tensors.values()
    return vb.Batch((y.to(torch.get_default_dtype()), sigma.to(torch.get_default_dtype())))


STAGED = [
    case
    for case in itertools.product(vb.ESTIMATORS, PAIRS)
    if suits(resolve(case[0]), PAIRS[case[1]][0](), batch_of(case[1]))
]


# One of each way of drawing; the programs of all are made, and held against Pyro, by the tests above.
AT_ONCE = {"trace": "mixed", "rloo": "normal_normal", "adaptive_stl": "vae", "rebar": "coin", "dreg": "schools"}


@pytest.mark.parametrize(
    ("name", "pair_name"),
    [pytest.param(*case, marks=() if AT_ONCE.get(case[0]) == case[1] else pytest.mark.slow) for case in STAGED],
)
def test_staged_is_eager(name, pair_name):
    staged_is_eager(name, pair_name, 1e-10)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("trace", "iwae") else pytest.mark.slow)
        for name, pair in STAGED
        if pair == "vae"
    ],
)
def test_staged_is_eager_in_single_precision(name):
    torch.set_default_dtype(torch.float32)
    staged_is_eager(name, "vae", 1e-4)


def staged_is_eager(name: str, pair_name: str, digits: float) -> None:
    """The captured program, the compiled one and Pyro give the same numbers on the same noise."""
    batch = batch_of(pair_name)
    pair = PAIRS[pair_name][0]().initialise(batch)
    estimator = with_memory(resolve(name), pair, batch)
    with vb.seeded(5):
        pair.load({k: v + 0.1 * torch.randn_like(v) for k, v in pair.parameters.items()})
    program = stage(pair, estimator, batch)
    assert program.static
    with vb.seeded(0):
        noise = draw_noise(program.sizes, 8, next(iter(pair.parameters.values())))
    compiled = Replicated(program, pair.parameters, batch.args, compiled=True)
    assert compiled.native is not None
    (in_machine_code,) = compiled(pair.parameters, noise, batch.args)
    gradients, values = replicate(program, pair.parameters, noise, batch.args)
    with pair.scope(), validation(False):
        for r in range(8):
            expected, value, _ = eager(pair, estimator, None)(
                pair.parameters, program.buffers, tuple(n[r] for n in noise), batch.args
            )
            torch.testing.assert_close(values[r], value, rtol=digits, atol=digits)
            whole = torch.cat([gradient.reshape(-1) for gradient in expected.values()])
            # Relative to the gradient's length: a coordinate that cancels to nothing has no digits of its own.
            near = {"rtol": digits, "atol": digits * float(whole.abs().max())}
            torch.testing.assert_close(torch.cat([gradients[k][r].reshape(-1) for k in expected]), whole, **near)
            torch.testing.assert_close(in_machine_code[r], whole, **near)
    assert values.std() > 0 or name == "enumerated"


@pytest.mark.parametrize("name", vb.ESTIMATORS)
def test_claims(name):
    kind = vb.ESTIMATORS[name]
    estimator = kind()
    assert isinstance(estimator, ELBO) and dataclasses.is_dataclass(kind)
    assert estimator == kind() and hash(estimator) == hash(kind())
    assert name_of(estimator) == name and name_of(kind(max_plate_nesting=1)) == name
    assert name_of(kind(num_particles=6)) == f"{name}(6)"
    assert kind.reference and kind.bound and kind.unbiased_for
    assert kind.__doc__ and "References" in kind.__doc__ and "surrogate" in kind.__doc__
    assert kind.needs <= {f.name for f in dataclasses.fields(vb.Particles)} and estimator.request.needs == kind.needs
    assert kind.unbiased_in <= {"model", "guide"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimator.num_particles = 7
    with pytest.raises(vb.errors.BadInput, match="Wanted: an integer of at least"):
        kind(num_particles=kind.min_particles - 1)
    assert pickle.loads(pickle.dumps(estimator)) == copy.deepcopy(estimator) == estimator


@pytest.mark.parametrize("name", vb.ESTIMATORS)
def test_only_what_it_needs_is_computed(name):
    make = next(make for make, _ in (PAIRS["normal_normal"], PAIRS["coin"]) if suits(resolve(name), make(), BATCH))
    pair = make().initialise(BATCH)
    estimator = with_memory(resolve(name), pair, BATCH)
    with pair.scope(), vb.seeded(0):
        particles = estimator.draw(pair, BATCH)
        estimate = estimator.estimate(particles)
    assert vars(particles).keys() - {"scale", "local", "closed_form"} == estimator.needs
    assert estimate.value.shape == estimate.surrogate.shape == (() if name == "enumerated" else (2,))
    assert not estimate.value.requires_grad and estimate.surrogate.requires_grad


def test_stl_has_no_noise_at_the_exact_posterior():
    pair = vb.pairs.normal_normal().initialise(BATCH)
    pair.load({"loc": X / 2, "scale": torch.tensor(0.5).sqrt().log()})
    with pair.scope(), vb.seeded(0):
        particles = vb.STL().draw(pair, BATCH)
        surrogate = vb.STL().estimate(particles).surrogate.sum()
        gradients = torch.autograd.grad(surrogate, list(pair.leaves.values()))
        assert all(g.abs().max() < 1e-12 for g in gradients)
        pathwise = vb.Pathwise().draw(pair, BATCH).log_w.sum()
        assert max(g.abs().max() for g in torch.autograd.grad(pathwise, list(pair.leaves.values()))) > 0.1


def test_held_constant_means_the_whole_guide():
    """In a hierarchical guide a child's density at constants must not reach the parameters through its parent's draw."""
    pair = mixed().initialise(BATCH)
    with pair.scope(), vb.seeded(0):
        particles = vb.draw(pair, BATCH, 1, {"log_q_fixed", "log_q"})
        (fixed,) = torch.autograd.grad(particles.log_q_fixed.sum(), pair.leaves["shared"], retain_graph=True)
        (live,) = torch.autograd.grad(particles.log_q.sum(), pair.leaves["shared"])
    with pair.scope(), vb.seeded(0), Recorder() as calls:
        q, _ = pair.run(BATCH)
    # d/d shared of ln N(g; shared + 0.1, 0.8) at the drawn g, and nothing else.
    g = q.nodes["g"]["value"].detach()
    assert calls.sizes[0] > 0
    torch.testing.assert_close(fixed, (g - 0.5) / 0.8**2)
    assert abs(live - fixed) > 1e-3
