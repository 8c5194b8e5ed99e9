"""The table of operations on single numbers: a row here for each row there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vbayes.staging.machine_code import compile_native, simplified
from vbayes.staging.native import interpret, translate
from vbayes.staging.native.ir import Pointwise
from vbayes.staging.native.ops import OPS, Code

# Name of the operation → functions that are made of it. x: floats between -1 and 1; i: integers; b: truth values.
ROWS: dict[str, list[Callable[..., torch.Tensor]]] = {
    "_dirichlet_grad": [lambda x, i, b, a=a, c=c: torch._dirichlet_grad((1 + x) / 2, a + 0 * x, a + c + 0 * x) for a, c in ((0.4, 0.7), (3.0, 9.0), (30.0, 40.0), (0.5, 20.0), (20.0, 0.5))]
    + [lambda x, i, b: torch._dirichlet_grad(0.5 + 0.001 * x, 30 + 0 * x, 60 + 0 * x)],
    "_standard_gamma_grad": [lambda x, i, b, s=s: torch._standard_gamma_grad(s + 0 * x, s * (1 + x) ** 3) for s in (0.4, 3.0, 12.0)]
    + [lambda x, i, b: torch._standard_gamma_grad(12 + 0 * x, 12 * (1 + 0.08 * x))],
    "abs": [lambda x, i, b: x.abs(), lambda x, i, b: i.abs()],
    "acos": [lambda x, i, b: x.acos()],
    "add": [lambda x, i, b: x + x, lambda x, i, b: i + x, lambda x, i, b: i + 3],
    "add_scaled": [lambda x, i, b: torch.add(x, i, alpha=3), lambda x, i, b: torch.add(i, i, alpha=-2)],
    "asin": [lambda x, i, b: x.asin()],
    "atan": [lambda x, i, b: (9 * x).atan()],
    "atan2": [lambda x, i, b: torch.atan2(x, x.flip(0)), lambda x, i, b: torch.atan2(x, -x.abs())],
    "bitwise_and": [lambda x, i, b: i & 6, lambda x, i, b: b & (i > 0)],
    "bitwise_not": [lambda x, i, b: ~i, lambda x, i, b: ~b],
    "bitwise_or": [lambda x, i, b: i | 6, lambda x, i, b: b | (i > 0)],
    "bitwise_xor": [lambda x, i, b: i ^ 6, lambda x, i, b: b ^ (i > 0)],
    "ceil": [lambda x, i, b: (3 * x).ceil(), lambda x, i, b: i.ceil()],
    "copy": [lambda x, i, b: x.clone(), lambda x, i, b: i.to(x.dtype), lambda x, i, b: (9 * x).to(torch.int64)],
    "cos": [lambda x, i, b: (9 * x).cos()],
    "cosh": [lambda x, i, b: (3 * x).cosh()],
    "cube": [lambda x, i, b: x**3, lambda x, i, b: i**3],
    "digamma": [lambda x, i, b: torch.digamma(4 * x), lambda x, i, b: torch.polygamma(0, x.abs())],
    "div": [lambda x, i, b: x / x.flip(0), lambda x, i, b: i / 7],
    "div_floor": [lambda x, i, b: torch.div(3 * x, 0.7, rounding_mode="floor")],
    "div_trunc": [lambda x, i, b: torch.div(3 * x, 0.7, rounding_mode="trunc")],
    "eq": [lambda x, i, b: x == x.flip(0), lambda x, i, b: i == 3],
    "erf": [lambda x, i, b: (3 * x).erf()],
    "erfc": [lambda x, i, b: (3 * x).erfc()],
    "erfinv": [lambda x, i, b: x.erfinv()],
    "exp": [lambda x, i, b: (9 * x).exp()],
    "expm1": [lambda x, i, b: (x / 100).expm1()],
    "floor": [lambda x, i, b: (3 * x).floor(), lambda x, i, b: i.floor()],
    "fmod": [lambda x, i, b: torch.fmod(3 * x, 0.7), lambda x, i, b: torch.fmod(i, 4), lambda x, i, b: torch.fmod(i, -4)],
    "ge": [lambda x, i, b: x >= x.flip(0), lambda x, i, b: i >= 0.5],
    "gt": [lambda x, i, b: x > 0, lambda x, i, b: i > b],
    "hypot": [lambda x, i, b: torch.hypot(x, x.flip(0))],
    "isinf": [lambda x, i, b: torch.isinf(1 / (x - x.abs()))],
    "isnan": [lambda x, i, b: x.log().isnan()],
    "le": [lambda x, i, b: x <= x.flip(0)],
    "lgamma": [lambda x, i, b: torch.lgamma(x.abs() * 5)],
    "log": [lambda x, i, b: x.log()],
    "log10": [lambda x, i, b: x.log10()],
    "log1p": [lambda x, i, b: (x / 100).log1p()],
    "log2": [lambda x, i, b: x.log2()],
    "logical_and": [lambda x, i, b: torch.logical_and(x, i)],
    "logical_not": [lambda x, i, b: torch.logical_not(i)],
    "logical_or": [lambda x, i, b: torch.logical_or(b, i)],
    "logical_xor": [lambda x, i, b: torch.logical_xor(b, i)],
    "lt": [lambda x, i, b: x < i],
    "maximum": [lambda x, i, b: torch.maximum(x.log(), -x), lambda x, i, b: torch.maximum(-x, x.log()), lambda x, i, b: i.clamp_min(2)],
    "minimum": [lambda x, i, b: torch.minimum(x.log(), -x), lambda x, i, b: torch.minimum(-x, x.log()), lambda x, i, b: i.clamp_max(2)],
    "mul": [lambda x, i, b: x * i, lambda x, i, b: i * 0x7FEB352D7FEB352D],
    "ne": [lambda x, i, b: x != x.flip(0)],
    "neg": [lambda x, i, b: -x, lambda x, i, b: -i],
    "nonzero": [lambda x, i, b: i.bool(), lambda x, i, b: x.trunc().bool()],
    "one": [lambda x, i, b: x**0],
    "pow": [lambda x, i, b: x.abs() ** x, lambda x, i, b: x.abs() ** 2.5, lambda x, i, b: 2**x],
    "reciprocal": [lambda x, i, b: x.reciprocal(), lambda x, i, b: x**-1],
    "reciprocal_square": [lambda x, i, b: x**-2],
    "relu": [lambda x, i, b: x.log().relu(), lambda x, i, b: i.relu()],
    "remainder": [lambda x, i, b: torch.remainder(3 * x, 0.7), lambda x, i, b: i % 4, lambda x, i, b: i % -4],
    "round": [lambda x, i, b: (4 * x).round(), lambda x, i, b: (i + 0.5).round(), lambda x, i, b: i.round()],
    "rsqrt": [lambda x, i, b: x.rsqrt()],
    "shift_left": [lambda x, i, b: i << 3],
    "shift_right": [lambda x, i, b: i >> 1],
    "sigmoid": [lambda x, i, b: (99 * x).sigmoid()],
    "sign": [lambda x, i, b: x.sign(), lambda x, i, b: i.sign()],
    "sin": [lambda x, i, b: (9 * x).sin()],
    "sinh": [lambda x, i, b: (3 * x).sinh()],
    "sqrt": [lambda x, i, b: x.sqrt(), lambda x, i, b: x**0.5],
    "square": [lambda x, i, b: x.square(), lambda x, i, b: i**2],
    "square_difference": [lambda x, i, b: x.var()],
    "sub": [lambda x, i, b: x - i, lambda x, i, b: 1 - i],
    "sub_scaled": [lambda x, i, b: torch.sub(x, i, alpha=3)],
    "sum_scaled": [lambda x, i, b: torch.addmm(x[:2], x[:4].view(2, 2), x[4:8].view(2, 2), beta=0.5, alpha=2)],
    "tan": [lambda x, i, b: x.tan()],
    "tanh": [lambda x, i, b: (9 * x).tanh()],
    "trigamma": [lambda x, i, b: torch.polygamma(1, 4 * x)],
    "trunc": [lambda x, i, b: (3 * x).trunc(), lambda x, i, b: i.trunc()],
    "where": [lambda x, i, b: torch.where(b, x, 2.0), lambda x, i, b: i.masked_fill(i > 2, -1)],
}  # fmt: skip
DIGITS = {torch.float32: 1e-5, torch.float64: 1e-11}
TRIGAMMA = 1e-7  # torch's own has no more digits


def test_every_operation_has_a_row():
    assert set(ROWS) == set(OPS)


@pytest.mark.parametrize("dtype", DIGITS)
def test_compiled_and_interpreted_are_torch(dtype):
    x = torch.linspace(-0.95, 0.95, 24, dtype=torch.float64).to(dtype)  # without the poles, and without zero
    inputs = [x, torch.arange(-12, 12), torch.arange(24) % 3 == 0]
    functions = [(name, fn) for name, row in ROWS.items() for fn in row]
    native = compile_native(lambda *given: [fn(*given) for _, fn in functions], inputs)
    right = [fn(*inputs) for _, fn in functions]
    for kind, made in (("compiled", native(*inputs)), ("interpreted", interpret(native.translation.graph, inputs))):
        for (name, _), mine, theirs in zip(functions, made, right, strict=True):
            digits = max(DIGITS[dtype], TRIGAMMA if name == "trigamma" else 0)
            assert mine.dtype == theirs.dtype, name
            torch.testing.assert_close(
                mine, theirs, rtol=digits, atol=digits, equal_nan=True, msg=lambda m, at=(kind, name): f"{at}: {m}"
            )


def test_a_row_has_its_operation_in_each_of_its_forms():
    inputs = [torch.ones(24), torch.ones(24, dtype=torch.int64), torch.ones(24, dtype=torch.bool)]
    functions = [(name, fn) for name, row in ROWS.items() for fn in row]
    graph = translate(simplified(lambda *given: [fn(*given) for _, fn in functions], inputs)).graph
    found: dict[str, set[Code]] = {name: set() for name in OPS}
    for (name, _), output in zip(functions, graph.outputs, strict=True):
        within = [
            v for v in replace(graph, outputs=(output,)).values() if isinstance(v, Pointwise) and v.op.name == name
        ]
        assert within, name
        found[name].update(v.code for v in within)
    for name, op in OPS.items():
        assert found[name] == {code for code in (op.floats, op.integers, op.booleans) if code}, name
