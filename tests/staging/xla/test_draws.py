"""Random numbers that XLA draws, against those of torch's own operations: means and variances within five standard errors, and none of them twice."""

from __future__ import annotations

import pytest
import torch

from vbayes import seeded
from vbayes.staging.machine_code import simplified

pytest.importorskip("jax")  # the extra `xla`, which the extra `test` brings

from vbayes.staging.xla.program import XLA
from vbayes.staging.xla.rules import DRAWS
from vbayes.staging.xla.translate import supported

pytestmark = pytest.mark.on_cpu
aten = torch.ops.aten
COUNT = 4000
P = torch.tensor([0.1, 0.5, 0.2, 0.2])
# x: COUNT zeros.
ROWS = {
    "_sample_dirichlet": lambda x: aten._sample_dirichlet(torch.tensor([0.3, 1.0, 4.0]).expand(COUNT, 3)),
    "_standard_gamma": lambda x: aten._standard_gamma(torch.tensor([0.2, 1.0, 9.0]).expand(COUNT, 3)),
    "bernoulli": lambda x: torch.stack([aten.bernoulli(x + 0.3), aten.bernoulli(x, 0.8)], -1),
    "binomial": lambda x: aten.binomial(x + 30, x + 0.3),
    "cauchy": lambda x: aten.cauchy(x, 1.0, 2.0).atan(),
    "exponential": lambda x: aten.exponential(x, 2.0),
    "geometric": lambda x: aten.geometric(x, 0.3),
    "log_normal": lambda x: aten.log_normal(x, 0.5, 0.3),
    "multinomial": lambda x: torch.cat([aten.multinomial(P.expand(COUNT, 4), 3, True), aten.multinomial(P.expand(COUNT, 4), 2)], -1).to(x),
    "normal": lambda x: torch.stack([aten.normal(x + 2, 0.5), aten.normal(1.0, x + 2)], -1),
    "normal_functional": lambda x: aten.normal_functional(x, 1.0, 3.0),
    "poisson": lambda x: aten.poisson(torch.tensor([0.3, 20.0]).expand(COUNT, 2)),
    "rand": lambda x: torch.rand(COUNT),
    "rand_like": lambda x: torch.rand_like(x),
    "randint": lambda x: torch.stack([torch.randint(7, (COUNT,)), torch.randint(3, 9, (COUNT,))], -1).to(x),
    "randint_like": lambda x: torch.randint_like(x, 2, 5),
    "randn": lambda x: torch.randn(COUNT),
    "randn_like": lambda x: torch.randn_like(x),
    "randperm": lambda x: torch.randperm(COUNT)[:1000].to(x),
    "uniform": lambda x: aten.uniform(x, -1.0, 2.0),
}  # fmt: skip


def test_every_draw_has_a_row():
    assert set(ROWS) == set(DRAWS)


@pytest.mark.slow
def test_torchs_distributions():
    zeros = torch.zeros(COUNT)
    graph = simplified(lambda x: [fn(x) for fn in ROWS.values()], [zeros], supported)
    program = XLA(graph, 0, torch.device("cpu"))
    found = {str(node.target).split(".")[1] for node in program.drawn}
    assert found == set(DRAWS)
    with seeded(1):
        made, again = program(zeros), program(zeros)
    with seeded(2):
        right = [fn(zeros) for fn in ROWS.values()]
    for name, mine, other, theirs in zip(ROWS, made, again, right, strict=True):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape, name
        assert not torch.equal(mine, other), name
        for power in (1, 2):
            one, two = (t.reshape(len(t), -1).double() ** power for t in (mine, theirs))
            error = ((one.var(0) + two.var(0)) / len(one)).sqrt()
            assert ((one.mean(0) - two.mean(0)).abs() <= 5 * error).all(), (name, power)
    ((permuted,),) = [[mine for name, mine in zip(ROWS, made, strict=True) if name == "randperm"]]
    assert len(permuted.unique()) == 1000
    without = made[list(ROWS).index("multinomial")]
    assert (without[:, 3] != without[:, 4]).all()  # drawn without putting back
