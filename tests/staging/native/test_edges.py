"""Operations at the edges of their types, as torch has them: zeros, infinities, NaN, denormals, the ends of the integers, nothing at all, one element."""

from __future__ import annotations

import functools
import math
import warnings

import pytest
import torch

from vbayes.staging.machine_code import compile_native

FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 1e-310, 1e17, -1e17, 1e300, -1e300, 88.0, -745.0, 2.0**53, 3.0]  # fmt: skip
INTEGERS = [0, 1, -1, 3, -3, 2**62, -(2**62), 2**63 - 1, -(2**63), 7, 64, 63, -64]
OF_ONE = (
    "abs acos asin atan ceil cos cosh digamma erf erfc erfinv exp expm1 floor lgamma log log10 log1p log2 sin sinh sqrt tan tanh trunc round rsqrt "
    "sigmoid neg reciprocal relu sign square isnan isinf logical_not"
).split()
OF_TWO = "atan2 fmod hypot remainder maximum minimum pow add sub mul div eq ne lt le gt ge logical_and logical_or logical_xor".split()
OF_INTEGERS = "maximum minimum add sub mul div eq ne lt le gt ge logical_and bitwise_and bitwise_or bitwise_xor".split()
DIGITS = {torch.float64: 1e-11, torch.float32: 1e-5}


def pairs_of(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = (grid.reshape(-1).contiguous() for grid in torch.meshgrid(values, values, indexing="ij"))
    return a, b


def check(named, inputs, digits=0.0, at=None):
    """All functions in one program; `at` says which elements count. Denormal numbers have fewer digits."""
    functions = list(named.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, of too few degrees of freedom
        native = compile_native(lambda *given: [fn(*given) for fn in functions], inputs)
        right = [fn(*inputs) for fn in functions]
    for name, mine, theirs in zip(named, native(*inputs), right, strict=True):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape, name
        if at is not None:
            mine, theirs = mine[at(name)], theirs[at(name)]
        torch.testing.assert_close(
            mine, theirs, rtol=digits, atol=1e-302 * digits, equal_nan=True, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("dtype", DIGITS)
def test_functions_of_one_number(dtype):
    x = torch.tensor(FLOATS, dtype=torch.float64).to(dtype)
    check({name: getattr(torch, name) for name in OF_ONE}, [x], DIGITS[dtype])


@pytest.mark.parametrize("dtype", DIGITS)
def test_functions_of_two_numbers(dtype):
    """But for the rest by a denormal number, of which torch's vectorised code makes NaN: there ours is that of C, and of Python."""
    a, b = pairs_of(torch.tensor(FLOATS, dtype=torch.float64).to(dtype))
    named = {name: getattr(torch, name) for name in OF_TWO}
    named |= {mode: functools.partial(torch.div, rounding_mode=mode) for mode in ("floor", "trunc")}
    denormal = (b != 0) & (b.abs() < torch.finfo(dtype).tiny)
    rests = ("fmod", "remainder", "floor")
    check(named, [a, b], DIGITS[dtype], lambda name: ~denormal if name in rests else torch.ones_like(denormal))
    (mine,) = compile_native(lambda a, b: [torch.fmod(a, b)], [a, b])(a, b)
    for x, y, z in zip(a[denormal].tolist(), b[denormal].tolist(), mine[denormal].tolist(), strict=True):
        assert math.isnan(z) if not math.isfinite(x) else z == math.fmod(x, y)


def test_the_rest_of_large_numbers():
    """1e17 % 3 was 4, and a rest of a quotient that was rounded up negative."""
    x = torch.tensor([1e17, -1e17, 1e16 + 2, 1.0, -1.0], dtype=torch.float64)
    y = torch.tensor([3.0, 3.0, 7.0, 0.1, 0.1], dtype=torch.float64)
    rest, down = compile_native(lambda x, y: [x % y, x // y], [x, y])(x, y)
    assert rest.tolist() == [a % b for a, b in zip(x.tolist(), y.tolist(), strict=True)] and rest[0] == 1.0
    assert down.tolist() == [a // b for a, b in zip(x.tolist(), y.tolist(), strict=True)] and down[3] == 9.0


def test_integers():
    a, b = pairs_of(torch.tensor(INTEGERS))
    named = {name: getattr(torch, name) for name in OF_INTEGERS}
    named |= {"abs": lambda a, b: a.abs(), "neg": lambda a, b: -a, "cube": lambda a, b: a * a * a}
    named |= {"<<": lambda a, b: a << b, ">>": lambda a, b: a >> b}
    named |= {"least": lambda a, b: a.clamp(min=-(2**63)), "square": lambda a, b: a**2}
    check(named, [a, b], 1e-15)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_the_rest_of_integers(dtype):
    info = torch.iinfo(dtype)
    a, b = pairs_of(
        torch.tensor([info.min, info.min + 1, 0, 1, 3, 7, info.max - 1, info.max, -3 % 256, 5], dtype=dtype)
    )
    kept = b != 0
    if dtype.is_signed:
        minus = torch.tensor([-1, -3, -7], dtype=dtype)
        a, b = torch.cat([a[kept], minus, -minus, minus]), torch.cat([b[kept], -minus - 2, minus, minus])
        a, b = a[b != 0], b[b != 0]
    else:
        a, b = a[kept], b[kept]
    check({"remainder": torch.remainder, "fmod": torch.fmod}, [a, b])


def test_the_least_integer_by_minus_one():
    """Its quotient is too large for its type, and the processor ends the process; the rest is 0."""
    a, b = torch.tensor([-(2**63)]), torch.tensor([3])
    native = compile_native(lambda a, b: [a % b, torch.fmod(a, b)], [a, b])
    assert [t.item() for t in native(a, torch.tensor([-1]))] == [0, 0]


@pytest.mark.parametrize("fn", [torch.remainder, torch.fmod])
def test_an_integer_by_zero_is_an_error(fn):
    """As torch's, whose name it bears; and the next call knows nothing of it."""
    seven, k = torch.tensor(7), torch.tensor([3, 0, 2])
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        fn(seven, k)
    native = compile_native(lambda a, b: [fn(a, b)], [seven, torch.ones_like(k)])
    with pytest.raises(ZeroDivisionError, match="an integer is divided by zero"):
        native(seven, k)
    assert native(seven, torch.tensor([3, 4, 2]))[0].tolist() == [1, 3, 1]


nan = math.nan
ROWS = [
    [1.0, 3, 3, 2],
    [nan, 1, nan, 5],
    [2, 2, 2, 2],
    [-math.inf, math.inf, 0, -0.0],
    [0.0, -0.0, 0, 0],
    [5, nan, 7, 1],
]
REDUCTIONS = {
    "var": lambda x: x.var(1), "var 0": lambda x: x.var(1, correction=0), "var of all": lambda x: x.var(), "var of one": lambda x: x[:1, :1].var(),
    "var, more than there are": lambda x: x.var(1, correction=9), "std": lambda x: x.std(0), "argmax": lambda x: x.argmax(1), "argmin": lambda x: x.argmin(1),
    "argmax 0": lambda x: x.argmax(0), "argmax of all": lambda x: x.argmax(), "max": lambda x: x.max(1)[0], "where max": lambda x: x.max(1)[1],
    "where min": lambda x: x.min(1)[1], "amax": lambda x: x.amax(0), "amin": lambda x: x.amin(1), "sum": lambda x: x.sum(0), "prod": lambda x: x.prod(1),
    "cumsum": lambda x: x.cumsum(1), "softmax": lambda x: x.softmax(1), "logsumexp": lambda x: x.logsumexp(1), "norm": lambda x: x.norm(dim=1),
    "any": lambda x: x.bool().any(1), "clamp": lambda x: x.clamp(-1, 2), "nan_to_num": lambda x: x.nan_to_num(), "ties": lambda x: x.nan_to_num(posinf=5, neginf=2).long().max(1)[1],
    "sum of none": lambda x: x[:, :0].sum(1), "mean of none": lambda x: x[:, :0].mean(1), "prod of none": lambda x: x[:, :0].prod(1), "var of none": lambda x: x[:, :0].var(1),
    "any of none": lambda x: (x[:, :0] > 0).any(1), "all of none": lambda x: (x[:, :0] > 0).all(1), "none": lambda x: x[:0] * 2, "sum to none": lambda x: x[:0].sum(1),
    "sum of no rows": lambda x: x[:0].sum(0), "cat": lambda x: torch.cat([x[:0], x]), "matmul over none": lambda x: x[:, :0] @ x[:4, :0].T, "one": lambda x: x[:1, :1] + x[4:5, 2:3],
}  # fmt: skip


@pytest.mark.parametrize("dtype", DIGITS)
def test_reductions(dtype):
    check(REDUCTIONS, [torch.tensor(ROWS, dtype=dtype)], DIGITS[dtype])
