"""The recorder of operations beside `make_fx`, which it stands in for."""

from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

from vbayes.staging.inline import decomposed
from vbayes.staging.record import record

X, TABLE = torch.linspace(0.1, 1.2, 12, dtype=torch.float64).view(3, 4), torch.arange(4.0).double()


def overwritten(x, more):
    y = x.clone()
    y[0] = more["row"]
    y.add_(1.0)[:, 1].mul_(2.0)
    return y


def constants(x, more):
    half = torch.tensor(1.0, dtype=torch.float64)
    half.mul_(0.5)
    return x * half.item() if bool(half > 0.2) else x, TABLE + x


def several(x, more):
    values, places = x.max(1)
    return {"values": values, "places": places, "parts": x.split(2, 1), "number": 3}


def gradient(x, more):
    live = x.detach().requires_grad_()
    (found,) = torch.autograd.grad(torch.linalg.cholesky(live @ live.T + torch.eye(3)).logdet() + (live**3).sum(), live)
    return found


def mapped(x, more):
    return torch.func.vmap(lambda row: torch.func.grad(lambda r: (r.exp() * more["row"]).sum())(row))(x)


def drawn(x, more):
    return x + torch.randn(3, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def no_grad(x, more):
    with torch.inference_mode():
        return torch.nn.functional.layer_norm(x, (4,)) @ more["row"]


@pytest.mark.parametrize("fn", [overwritten, constants, several, gradient, mapped, no_grad], ids=lambda fn: fn.__name__)
def test_it_has_the_operations_of_make_fx_and_the_functions_numbers(fn):
    args = X, {"row": torch.ones(4).double(), "size": 7}
    graph, right = record(fn, *args), make_fx(fn)(*args)
    ops, theirs = ([n.target for n in g.graph.nodes if n.op == "call_function"] for g in (graph, right))
    assert ops == theirs
    other = X.flip(0) + 0.5, {"row": TABLE, "size": 7}
    for mine, wanted in zip(tree_leaves(graph(*other)), tree_leaves(fn(*other)), strict=True):
        assert torch.equal(torch.as_tensor(mine), torch.as_tensor(wanted))
    noted = [
        (n.meta["val"].shape, n.meta["val"].dtype)
        for n in graph.graph.nodes
        if isinstance(n.meta.get("val"), torch.Tensor)
    ]
    assert len(noted) > 3 and (X.shape, X.dtype) in noted


def test_what_it_cannot_do_it_says():
    with pytest.raises(RuntimeError, match="_local_scalar_dense"):
        record(lambda x: x if x.sum() > 0 else -x, X)


def test_a_generator_is_kept_as_it_is():
    graph = record(drawn, X, {})
    assert graph(X, {}).shape == X.shape and decomposed(graph, {})(X)[0].shape == X.shape


def test_constants_that_are_read_twice_keep_their_places():
    """They are copied under names of their own, also where a tensor is there more than once."""
    here, again, there = torch.ones(4).double(), torch.arange(4).double(), torch.full((4,), 5.0).double()
    graph = record(lambda x: [x * here, x * again, x * there], X)
    graph._constant_1 = graph._constant_0
    flat = decomposed(graph, {})
    assert all(torch.equal(a, b) for a, b in zip(flat(X), (X * here, X * here, X * there), strict=True))


def by_row(x, a):
    a[0] = x.sum()
    return a


def by_view(x, a):
    a.view(-1)[:1].copy_(x.sum())
    return a


def by_detached(x, a):
    a.detach()[0] = x.sum()
    return a


def seen_before(x, a):
    first = a[0]
    a.add_(1.0)
    return torch.stack([first + 0 * x.sum(), first])


@pytest.mark.parametrize("write", [by_row, by_view, by_detached])
def test_what_was_written_to_by_another_name_is_no_constant(write):
    with pytest.raises(RuntimeError, match="reads a value"):
        record(lambda x: x * float(write(x, torch.tensor([-1.0, 0.0]))[0]), X)


def test_a_view_of_an_overwritten_constant_is_not_read():
    with pytest.raises(RuntimeError, match="reads a value"):
        record(lambda x: x * float(seen_before(x, torch.tensor([-1.0, 0.0]))[1]), X)
    with pytest.raises(RuntimeError, match="reads a value"):

        def stale(x):
            a = torch.tensor([-1.0, 0.0])
            first = a[0]
            a.add_(1.0)
            return x * first.item()

        record(stale, X)
