"""Random compositions of operations, views of views and changes in place among them, against torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vbayes.staging.machine_code import compile_native

# An operation takes arrays of shape (3, 4) and two small integers, and returns one of that shape.
OPERATIONS = {
    "add": lambda a, b, i, j: a + b,
    "sub": lambda a, b, i, j: a - 0.5 * b,
    "mul": lambda a, b, i, j: a * b,
    "div": lambda a, b, i, j: a / (1 + b.abs()),
    "tanh": lambda a, b, i, j: a.tanh(),
    "sigmoid": lambda a, b, i, j: a.sigmoid(),
    "abs": lambda a, b, i, j: a.abs(),
    "clamp": lambda a, b, i, j: a.clamp(-1.0, 0.7),
    "maximum": lambda a, b, i, j: torch.maximum(a, b),
    "where": lambda a, b, i, j: torch.where(a > b, a, 2 * b),
    "integers": lambda a, b, i, j: ((8 * a).round().long() % (2 + i)).to(a.dtype),
    "turn": lambda a, b, i, j: a.t().reshape(3, 4),
    "turned view": lambda a, b, i, j: a.t().contiguous().view(3, 4) + b,
    "flip": lambda a, b, i, j: a.flip(i % 2),
    "roll": lambda a, b, i, j: a.roll(i, j % 2),
    "row": lambda a, b, i, j: a[i % 3].expand(3, 4) - b,
    "column": lambda a, b, i, j: a[:, j % 4, None] * b,
    "slices": lambda a, b, i, j: torch.cat([a[i % 3 :], b[: i % 3]]),
    "strided": lambda a, b, i, j: torch.cat([a[:, ::2], b[:, 1::2]], 1),
    "stack": lambda a, b, i, j: torch.stack([a[0], b[1], a[2]]),
    "gather": lambda a, b, i, j: a[torch.tensor([i % 3, j % 3, -1])],
    "sum": lambda a, b, i, j: a - a.sum(i % 2, keepdim=True),
    "mean": lambda a, b, i, j: a - b.mean(),
    "softmax": lambda a, b, i, j: a.softmax(i % 2),
    "cumsum": lambda a, b, i, j: a.cumsum(j % 2),
    "var": lambda a, b, i, j: a / (1 + b.var(i % 2, keepdim=True)),
    "amax": lambda a, b, i, j: a - b.amax(i % 2, keepdim=True),
    "argmax": lambda a, b, i, j: a + a.argmax(1, keepdim=True),
    "product": lambda a, b, i, j: a @ b.t() @ b / 4,
    "in place": lambda a, b, i, j: a.clone().mul_(0.5).add_(b),
    "into a view": lambda a, b, i, j: _into(a, b, slice(i % 3, i % 3 + 1)),
    "into itself": lambda a, b, i, j: _overlapping(a, i),
    "through two views": lambda a, b, i, j: _through(a, b, i),
}


def _into(a, b, rows):
    a = a.clone()
    a[rows] = b[:1]
    return a


def _overlapping(a, i):
    """A part is added to another part of the same memory, which is then read."""
    a = a.clone()
    a[:2].add_(a[1:].clone())
    return a * (1 + i)


def _through(a, b, i):
    """Written through one view, read through another."""
    a = a.clone()
    turned, row = a.t(), a[i % 3]
    turned[1].sub_(b[:, 0])
    row.mul_(2.0)
    return turned.reshape(3, 4) + a


steps = st.lists(
    st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 7), st.integers(0, 7), st.integers(0, 5), st.integers(0, 5)),
    min_size=1,
    max_size=9,
)  # fmt: skip


def holds(steps, seed):
    x, y = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def program(x, y):
        made = [x, y]
        for name, first, second, i, j in steps:
            made.append(OPERATIONS[name](made[first % len(made)], made[second % len(made)], i, j))
        return made[2:]

    right = program(x, y)
    for (name, *_), mine, theirs in zip(steps, compile_native(program, [x, y])(x, y), right, strict=True):
        torch.testing.assert_close(
            mine, theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max()), msg=lambda m, name=name: f"{name}: {m}"
        )


how = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": [HealthCheck.too_slow]}


@settings(max_examples=8, **how)
@given(steps, st.integers(0, 9))
def test_some_compositions(steps, seed):
    holds(steps, seed)


@pytest.mark.slow
@settings(max_examples=100, **how)
@given(steps, st.integers(0, 99))
def test_a_hundred_compositions(steps, seed):
    holds(steps, seed)
