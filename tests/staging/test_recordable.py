"""What a CUDA graph can record: a factorisation without its check, but not what brings a value to the host."""

from __future__ import annotations

import pytest
import torch
from torch.fx import Graph, GraphModule

from tests.devices.stand_in import on_cuda
from vbayes.staging.cuda_capture import Unrecordable
from vbayes.staging.recordable import CHECK, recordable
from vbayes.staging.trace import trace
from vbayes.validation import vmap

GOOD = 2 * torch.eye(3, dtype=torch.float64) + 0.5
INDEFINITE = GOOD - 4.0
SINGULAR = torch.diag(torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))


def recorded(fn, *examples):
    """A function as it would be recorded; nothing that checks a factor is left."""
    program = recordable(trace(fn, *examples), examples)
    assert not program.graph.find_nodes(op="call_function", target=CHECK)
    return program


FACTORED = {
    "cholesky": (torch.linalg.cholesky, INDEFINITE),
    "upper": (lambda a: torch.linalg.cholesky(a, upper=True), INDEFINITE),
    "inverse": (torch.linalg.inv, SINGULAR),
    "solve": (lambda a: torch.linalg.solve(a, a[0]), SINGULAR),
    "solve for several": (lambda a: torch.linalg.solve(a, a), SINGULAR),
    "lu": (lambda a: torch.linalg.lu_factor(a)[0], SINGULAR),
}


@pytest.mark.parametrize("name", FACTORED)
def test_what_has_no_factor_is_nan_and_the_rest_is_as_before(name):
    fn, bad = FACTORED[name]
    program = recorded(lambda a: [fn(a)], GOOD)
    assert torch.equal(program(GOOD)[0], fn(GOOD)) and program(bad)[0].isnan().all()
    many = recorded(vmap(lambda a: [fn(a)]), torch.stack([GOOD, GOOD]))
    (found,) = many(torch.stack([bad, GOOD]))
    assert found[0].isnan().all() and torch.allclose(found[1], fn(GOOD), rtol=1e-12)


def test_a_gradient_through_what_has_no_factor_is_nan():
    """The kernel leaves what it has reached, which is finite."""

    def density(a):
        live = a.clone().requires_grad_()
        value = torch.distributions.MultivariateNormal(a[0].detach() * 0, live, validate_args=False).log_prob(a[0])
        return [value.detach(), *torch.autograd.grad(value, live)]

    program = recorded(density, GOOD)
    for mine, right in zip(program(GOOD), density(GOOD), strict=True):
        assert torch.equal(mine, right)
    assert all(each.isnan().any() for each in program(INDEFINITE))
    factor, info = torch.linalg.cholesky_ex(INDEFINITE)
    assert info != 0 and factor.isfinite().all()


READING = {
    "eigh": (lambda a: torch.linalg.eigh(a)[0], "linalg_eigh brings a value"),
    "eigvalsh": (torch.linalg.eigvalsh, "linalg_eigh brings a value"),
    "svd": (lambda a: torch.linalg.svd(a)[1], "linalg_svd brings a value"),
    "pinv": (torch.linalg.pinv, "linalg_(pinv|svd|eigh) brings a value"),
    "exponential": (torch.linalg.matrix_exp, "linalg_matrix_exp brings a value"),
    "mask": (lambda a: a[a > 0], "index by a mask"),
    "into a mask": (lambda a: a.index_put((a > 0,), a.new_ones(())), "index_put by a mask"),
    "nonzero": (lambda a: torch.nonzero(a), "nonzero brings a value"),
    "selected": (lambda a: a.masked_select(a > 0), "masked_select brings a value"),
}


@pytest.mark.parametrize("name", READING)
def test_what_brings_a_value_to_the_host_is_named(name):
    fn, said = READING[name]
    with pytest.raises(Unrecordable, match=said):
        recorded(lambda a: [fn(a)], GOOD)


def test_the_line_of_the_model_is_named():
    with pytest.raises(Unrecordable, match=r"line \d+ of test_recordable.py: `.*eigh"):
        recorded(lambda a: [torch.linalg.eigh(a)[0]], GOOD)


STAYS = {
    "where": lambda a: torch.where(a > 0, a, 0.0),
    "places": lambda a: a[torch.tensor([0, 2])],
    "masked": lambda a: a.masked_fill(a > 0, 0.0),
    "determinant": torch.linalg.slogdet,
    "qr": torch.linalg.qr,
}


@pytest.mark.parametrize("name", STAYS)
def test_what_stays_on_the_card_is_recorded(name):
    program = recorded(lambda a: [*torch.utils._pytree.tree_leaves(STAYS[name](a))], GOOD)
    for mine, right in zip(program(GOOD), torch.utils._pytree.tree_leaves(STAYS[name](GOOD)), strict=True):
        assert torch.equal(mine, right)


def test_arguments_on_the_host(request):
    """A kernel takes along the number of a tensor there, and a graph would launch it with that for ever."""
    with on_cuda(request.config.getoption("--device")):
        there, here = torch.ones(2, device="cuda"), torch.ones((), device="cpu")
        with pytest.raises(Unrecordable, match="its arguments are on cpu and cuda:0"):
            recorded(lambda a, b: [a * b], there, here)
        assert recorded(lambda a: [a * torch.tensor(2.0, device="cpu")], there)(there)[0].tolist() == [2, 2]


def test_copies_to_the_host():
    graph = Graph()
    given = graph.placeholder("given")
    graph.output([graph.call_function(torch.ops.aten._to_copy.default, (given,), {"device": torch.device("cpu")})])
    with pytest.raises(Unrecordable, match="^to_copy copies a tensor to the host$"):
        recordable(GraphModule({}, graph), [GOOD])
