"""Functions as machine code, and after each pass on the way there, against torch itself."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from vbayes import rng
from vbayes.staging.machine_code import compile_native, compiled_or_why, say_once
from vbayes.staging.native import Unsupported, interpret

POINTWISE = {
    "abs": torch.abs, "acos": torch.acos, "asin": torch.asin, "atan": torch.atan, "ceil": lambda x: torch.ceil(3 * x),
    "cos": torch.cos, "cosh": torch.cosh, "digamma": lambda x: torch.digamma(4 * x), "erf": torch.erf,
    "erfc": torch.erfc, "erfinv": torch.erfinv, "exp": torch.exp, "expm1": torch.expm1,
    "floor": lambda x: torch.floor(3 * x), "lgamma": lambda x: torch.lgamma(x.abs() * 5), "log": lambda x: x.abs().log(),
    "log10": lambda x: x.abs().log10(), "log1p": torch.log1p, "log2": lambda x: x.abs().log2(), "neg": torch.neg,
    "reciprocal": torch.reciprocal, "relu": torch.relu, "round": lambda x: torch.round(3 * x),
    "rsqrt": lambda x: x.abs().rsqrt(), "sigmoid": torch.sigmoid, "sign": torch.sign, "sin": torch.sin,
    "sinh": torch.sinh, "sqrt": lambda x: x.abs().sqrt(), "square": torch.square, "tan": torch.tan, "tanh": torch.tanh,
    "trunc": lambda x: torch.trunc(3 * x), "pow": lambda x: x.abs() ** x, "pow3": lambda x: x**3,
    "pow2.5": lambda x: x.abs() ** 2.5, "pow-1": lambda x: x**-1, "2**x": lambda x: 2**x, "alpha": lambda x: torch.sub(x, x * x, alpha=3),
    "maximum": lambda x: torch.maximum(x, -x), "minimum": lambda x: torch.minimum(x, x * x), "fmod": lambda x: torch.fmod(3 * x, 0.7),
    "remainder": lambda x: torch.remainder(3 * x, 0.7), "atan2": lambda x: torch.atan2(x, x * x - 0.5),
    "clamp": lambda x: x.clamp(-0.5, 0.5), "clamp_min": lambda x: x.clamp_min(0.1), "clamp_max": lambda x: x.clamp(max=0.1),
    "where": lambda x: torch.where(x > 0, x, 2.0), "masked_fill": lambda x: x.masked_fill(x > 0, -1.0),
    "logic": lambda x: ((x > 0) & ~(x > 0.5) | (x < -0.5) ^ (x == 0)).to(x.dtype), "compare": lambda x: (x >= 0.1) != (x <= 0.3),
    "bits": lambda x: ((5 * x).to(torch.int64) << 3 ^ 11) >> 1 | 4 & (7 * x).to(torch.int64), "hash": lambda x: ((x.abs() * 2**24).to(torch.int64) * 0x7FEB352D) & (2**32 - 1),
    "any": lambda x: torch.logical_or(x > 0, torch.logical_and(x, torch.logical_not(x))), "isnan": lambda x: torch.isnan(x.log()),
    "isinf": lambda x: torch.isinf(1 / (x - x)), "isfinite": lambda x: torch.isfinite(x.log()), "nan_to_num": lambda x: torch.nan_to_num(x.log()),
    "lerp": lambda x: torch.lerp(x, x * x, 0.3), "addcmul": lambda x: torch.addcmul(x, x, x, value=2), "addcdiv": lambda x: torch.addcdiv(x, x, x * x + 1),
    "logaddexp": lambda x: torch.logaddexp(x, -x), "softplus": F.softplus, "logsigmoid": F.logsigmoid, "gelu": F.gelu, "silu": F.silu, "elu": F.elu,
    "leaky": F.leaky_relu, "xlogy": lambda x: torch.xlogy(x.abs(), x.abs()), "hypot": lambda x: torch.hypot(x, x), "mvlgamma": lambda x: torch.mvlgamma(x.abs() + 3, 2),
    "floor_divide": lambda x: torch.div(3 * x, 0.7, rounding_mode="floor"), "to int": lambda x: (5 * x).to(torch.int64), "to bool": lambda x: x.trunc().bool(),
    "int": lambda x: (5 * x).to(torch.int64) * 3 + 1, "mixed": lambda x: (5 * x).to(torch.int64) * x, "int mod": lambda x: (5 * x).to(torch.int64) % 3,
}  # fmt: skip
SHAPED = {
    "sum": lambda x: x.sum(), "sum 0": lambda x: x.sum(0), "sum 1": lambda x: x.sum(1), "sum -1": lambda x: x.sum(-1, keepdim=True),
    "sum 0 2": lambda x: x.sum((0, 2)), "sum 1 2": lambda x: x.sum((1, 2), keepdim=True), "mean": lambda x: x.mean(), "mean 1": lambda x: x.mean(1),
    "prod": lambda x: x.prod(-1), "amax": lambda x: x.amax((0, 1)), "amin": lambda x: x.amin(2), "any": lambda x: (x > 1).any(1), "all": lambda x: (x > -1).all(),
    "logsumexp": lambda x: x.logsumexp(-1), "softmax": lambda x: x.softmax(1), "log_softmax": lambda x: x.log_softmax(-1), "std": lambda x: x.std(0), "var": lambda x: x.var(),
    "norm": lambda x: x.norm(), "cumsum": lambda x: x.cumsum(1), "permute": lambda x: x.permute(2, 0, 1) * 2, "transpose": lambda x: x.transpose(0, 2) + x.transpose(0, 2).sum(0),
    "reshape": lambda x: x.permute(1, 0, 2).reshape(4, -1) + 1, "flatten": lambda x: x.flatten() * x.flatten(), "expand": lambda x: x[:, :1].expand(3, 4, 5) * x,
    "slice": lambda x: x[1:, ::2, -3:] * 2, "select": lambda x: x[:, 1] + x[0, 2], "diagonal": lambda x: x.diagonal(0, 0, 1), "unbind": lambda x: sum(x.unbind(1)), "split": lambda x: x.split([1, 4], -1)[1],
    "chunk": lambda x: x.chunk(2, 1)[1] - 1, "cat": lambda x: torch.cat([x, x * 2, x[:, :1].expand(3, 2, 5)], 1), "stack": lambda x: torch.stack([x, -x], -1), "pad": lambda x: F.pad(x, (1, 2, 0, 1), value=3.0),
    "flip": lambda x: x.flip(0), "roll": lambda x: x.roll(1, 1), "tril": lambda x: x.tril(), "eye": lambda x: x[:, :3] @ torch.eye(5) + 0 if False else torch.eye(5) * x[0, 0], "repeat": lambda x: x.repeat(2, 1, 1),
    "matmul": lambda x: x[0].T @ x[1], "bmm": lambda x: x @ x.transpose(1, 2), "batch": lambda x: x @ x[0].T, "mv": lambda x: x[0] @ x[0, 0], "tmv": lambda x: x[0].T @ x[0, :, 0], "dot": lambda x: x[0, 0] @ x[1, 1], "outer": lambda x: torch.outer(x[0, 0], x[1, 0]),
    "einsum": lambda x: torch.einsum("ijk,ilk->jl", x, x), "arange": lambda x: torch.arange(5) * x, "linspace": lambda x: torch.linspace(0, 1, 5) * x, "ones_like": lambda x: torch.ones_like(x) + torch.zeros_like(x).sum(),
    "index": lambda x: x[torch.tensor([0, 2, 2, -1])], "index 2": lambda x: x[:, torch.tensor([[0, 1], [3, -1]]), torch.tensor([4, 0])], "index apart": lambda x: x[torch.tensor([0, 2]), :, torch.tensor([1, 3])],
    "index_select": lambda x: x.index_select(1, torch.tensor([3, 0, 0])) * 2, "gather": lambda x: x.gather(1, torch.tensor([0, 3, 1]).view(3, 1, 1).expand(3, 1, 5)), "take": lambda x: torch.take_along_dim(x, (x > 0).long(), 1),
    "one_hot": lambda x: (x[0, :, 0:1].abs().long() == torch.arange(3)).double(), "scatter_add": lambda x: torch.zeros(3, 6, 5, dtype=x.dtype).scatter_add(1, torch.tensor([5, 0, 0, 1]).view(1, 4, 1).expand(3, 4, 5), x),
    "index_put": lambda x: x.index_put((torch.tensor([0, 0, 2]), torch.tensor([1, 1, 3])), x[0, :3], accumulate=True), "index_add": lambda x: x.index_add(1, torch.tensor([0, 0]), x[:, 2:]),
    "max": lambda x: x.max(1)[0], "argmax": lambda x: x.max(1)[1], "argmin": lambda x: x.argmin(-1), "argmax of all": lambda x: x.argmax(), "median of max": lambda x: x.max(),
    "scatter": lambda x: torch.zeros_like(x).scatter(1, x.argmax(1, keepdim=True), x[:, :1]), "scatter value": lambda x: torch.zeros_like(x).scatter(1, x.argmax(1, keepdim=True), 1.0),
    "cholesky": lambda x: torch.linalg.cholesky(_positive(x)), "solve": lambda x: torch.linalg.solve_triangular(_positive(x).tril(), x, upper=False),
    "upper": lambda x: torch.linalg.solve_triangular(_positive(x).triu(), x, upper=True), "right": lambda x: torch.linalg.solve_triangular(_positive(x).triu(), x.mT, upper=True, left=False),
    "unit": lambda x: torch.linalg.solve_triangular(_positive(x).tril(), x, upper=False, unitriangular=True), "cholesky_solve": lambda x: torch.cholesky_solve(x, torch.linalg.cholesky(_positive(x))),
    "mask": lambda x: _masked(x), "in place": lambda x: torch.zeros_like(x).add_(x).mul_(2), "setitem": lambda x: _set(x), "scalar": lambda x: x.sum() * torch.tensor(2.0, dtype=x.dtype), "one": lambda x: x[:1, :1, :1] * x.sum(), "empty sum": lambda x: x[:, :0].sum(1),
}  # fmt: skip


def _positive(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT + 2 * torch.eye(x.shape[-2], dtype=x.dtype)


SQUARE = {
    "layer_norm": lambda x: F.layer_norm(x, (3,)), "var 1": lambda x: x.var(1), "std keepdim": lambda x: x.std(0, keepdim=True),
    "var_mean": lambda x: sum(torch.var_mean(x, 1)), "rms": lambda x: F.rms_norm(x, (3,)), "group_norm": lambda x: F.group_norm(x.view(1, 9, 1).expand(2, 9, 3)[:, :6], 2),
    "instance_norm": lambda x: F.instance_norm(x.view(1, 3, 3)), "mean keepdim": lambda x: x - x.mean(1, keepdim=True), "amax keepdim": lambda x: x - x.amax(0, keepdim=True),
    "logsumexp": lambda x: x - x.logsumexp(1, keepdim=True), "cumsum": lambda x: x.cumsum(0) - x.cumsum(1), "softmax": lambda x: x.softmax(0) - x.softmax(1), "matmul": lambda x: x @ x.T - x.T @ x,
    "sums": lambda x: x.sum(0) - x.sum(1), "argmax": lambda x: x.argmax(0) - x.argmax(1), "normalize": lambda x: F.normalize(x, dim=1), "outer": lambda x: x[:, 0, None] - x[None, :, 0],
}  # fmt: skip


def test_square_shapes_where_dimensions_could_be_mistaken():
    agree(lambda x: [f(x) for f in SQUARE.values()], numbers(3, 3), rtol=1e-10)


@pytest.mark.parametrize("size", [5, 40_000])
def test_extremes(size):
    x = numbers(size)
    broken = x.clone()
    broken[size // 2] = torch.nan
    whole, truth = (100 * x).long(), x > 0
    rows = broken.view(-1, 5)
    agree(
        lambda x, b, i, t, r: [
            *(f(v) for f in (torch.amax, torch.amin) for v in (x, b, i, t)), i.max(0)[0], r.amax(0), r.amin(1), r.max(1)[0],
            i.to(torch.int32).amax(), (x * 2).sum() + x.amax(), b.sum(),
        ],
        x, broken, whole, truth, rows, rtol=1e-10,
    )  # fmt: skip


def _masked(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[x > 0] = 3.0
    y[x[:, 0, 0] > 0] = -1.0
    return y


def _set(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, 1] = 7
    y[0] += x[1]
    return y


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def agree(fn, *inputs, rtol):
    program, right = compile_native(fn, inputs), fn(*inputs)
    passes = program.translation
    made = {"C": program(*inputs)}
    made |= {type(form).__name__: interpret(form, inputs) for form in (passes.graph, passes.schedule, passes.layout)}
    for form, outputs in made.items():
        for index, (mine, theirs) in enumerate(zip(outputs, right, strict=True)):
            assert mine.dtype == theirs.dtype and mine.shape == theirs.shape, (form, index)
            torch.testing.assert_close(
                mine, theirs, rtol=rtol, atol=rtol, equal_nan=True, msg=lambda m, at=(form, index): f"{at}: {m}"
            )
    return program


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("table", [POINTWISE, SHAPED], ids=["pointwise", "shaped"])
def test_every_operation(dtype, table):
    x = numbers(3, 4, 5).to(dtype)
    x = x.clamp(-0.95, 0.95) if table is POINTWISE else x
    agree(lambda x: [f(x) for f in table.values()], x, rtol=1e-5 if dtype == torch.float32 else 1e-11)


@pytest.mark.parametrize("table", [POINTWISE, SHAPED], ids=["pointwise", "shaped"])
def test_gradients(table, double):
    x = numbers(3, 4, 5).clamp(-0.95, 0.95)

    def gradients(x):
        x = x.detach().requires_grad_()
        found = []
        for f in table.values():
            y = f(x)
            if y.requires_grad and f is not POINTWISE["digamma"]:  # torch's trigamma has nine digits
                found.append(torch.autograd.grad((y * y).sum(), x)[0])
        return found

    agree(gradients, x, rtol=1e-10)


def test_a_large_sum_over_other_than_the_last_dimensions_of_cheap_values():
    """Which no loop with anything else in it may hold."""
    x, own = torch.linspace(-3, 3, 2000).reshape(20, 100), torch.eye(20, dtype=torch.bool).unsqueeze(-1)
    others = lambda x: [torch.logsumexp(torch.where(own, -torch.inf, x.unsqueeze(0)), 1)]  # noqa: E731
    torch.testing.assert_close(compile_native(others, [x])(x), others(x))


def test_states_are_overwritten_also_where_they_are_still_read():
    def step(a, b, c, x):
        return [b * 1, (a @ b + b.T) * 0.5, c, (a * x).sum() + c.sum()]

    def by_hand(a, b, c, x, steps):
        values = []
        for i in range(steps):
            a, b, c, value = step(a, b, c, x[i])
            values.append(value)
        return a, b, c, torch.stack(values)

    # What is written at the very end of a step must lie where nothing else is put before.
    later = compile_native(lambda a, b: [b @ a + 1, (b + a).sum(0) * a, (a * b).sum(1)], [numbers(4, 4)] * 2, states=1)
    held, right = numbers(4, 4), (numbers(4, 4) @ numbers(4, 4) + 1)
    later(held, numbers(4, 4))
    torch.testing.assert_close(held, right)

    a, b, c, x = numbers(3, 3), numbers(3, 3) / 3, numbers(2), numbers(5, 3, 3)
    program = compile_native(step, [a, b, c, x[0]], states=3)
    right = by_hand(a, b, c, x, 5)
    values, states = x.new_empty(5), [a.clone(), b.clone(), c.clone()]
    assert program.run(5, [*states, x], [values], rows=[3], reported=[0]) == 5
    for mine, theirs in zip([*states, values], right, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_what_it_was_not_made_for_is_refused():
    program = compile_native(lambda x, y: [x * y], [numbers(3), numbers(3)])
    with pytest.raises(TypeError, match=r"input 1 is \(3,\) of torch.float32; the program takes 3 of torch.float64"):
        program(numbers(3), numbers(3).float())
    with pytest.raises(TypeError, match=r"input 0 is \(4,\)"):
        program(numbers(4), numbers(3))
    with pytest.raises(TypeError, match="output 0 is of torch.float32"):
        program.run(1, [numbers(3), numbers(3)], [torch.empty(3)])
    with pytest.raises(Unsupported, match="a state that changes its shape or type"):
        compile_native(lambda x: [x.float()], [numbers(3)], states=1)


def test_code_that_gives_other_numbers_than_torch_is_not_used():
    factors = itertools.count(1)
    say_once.cache_clear()
    with pytest.warns(
        UserWarning, match="gave other numbers than torch for output 0; the first pass with other numbers is tracing"
    ):
        native, why = compiled_or_why(lambda x: [x * next(factors)], [numbers(3)])
    assert native is None and "other numbers" in why
    say_once.cache_clear()
    assert compiled_or_why(lambda x: [torch.fft.fft(x).real], [numbers(3)])[1].startswith(
        "there is no machine code for"
    )


def test_a_recurrent_layer_is_no_single_operation():
    with rng.seeded(0):
        network = torch.nn.LSTM(3, 4, batch_first=True)

    def gradient(x):
        return [*torch.autograd.grad(network(x)[0].square().sum(), list(network.parameters()))]

    x = numbers(2, 5, 3).float()  # oneDNN has it for floats alone
    for ours, theirs in zip(compile_native(gradient, [x])(x), gradient(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_mask_that_hangs_on_no_input_names_its_places():
    """As `vec_to_tril_matrix` has it, from an arange; and one that is written down, read and written through, before and after a dimension."""
    mask, x = torch.tensor([True, False, True]), numbers(4, 3)

    def lower(x):
        places = torch.arange(3)
        below = places < places.view(-1, 1)
        made = x.new_zeros(4, 3, 3)
        made[..., below] = x
        picked = x.clone()
        picked[:, mask] = x[:, mask].exp()
        picked[mask.new_tensor([False, True, True, False])] += 1.0
        return [made, x[:, mask], picked]

    for ours, theirs in zip(compile_native(lower, [x])(x), lower(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_mask_of_values_is_known_to_have_no_machine_code_before_anything_is_made(monkeypatch):
    monkeypatch.setattr("vbayes.staging.machine_code.translate", None)
    for fn in (lambda x: [x[x > 0].sum()], lambda x: [x.masked_select(x > 0).sum()], lambda x: [(x > 0).nonzero()]):
        say_once.cache_clear()
        with pytest.warns(
            UserWarning, match=r"there is no machine code for .*depends on values.* Wanted: fixed shapes"
        ) as said:
            native, why = compiled_or_why(fn, [numbers(4, 3)])
        assert native is None and "report" not in why + str(said[0].message)
    say_once.cache_clear()


def test_a_second_thread_is_heard_and_threads_change_nothing(monkeypatch):
    monkeypatch.setattr("vbayes.staging.native.loops.SHARED", 2**14)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        values, index = numbers(10), torch.zeros(40_000, dtype=torch.int64)
        index[-1] = 99
        program = compile_native(lambda v, i: [v[i] * 2], [values, torch.zeros_like(index)])
        assert "parallel for" in program.source
        with pytest.raises(IndexError):
            program(values, index)
        assert program(values, torch.zeros_like(index))[0][0] == 2 * values[0]  # and it is over
        x = numbers(300_000)
        total = compile_native(lambda x: [(x * x).sum()], [x])
        assert len({total(x)[0].item() for _ in range(50)}) == 1
    finally:
        torch.set_num_threads(threads)


def test_a_matrix_without_a_factor_is_no_fault_to_report():
    """As that of a Gaussian process at the numbers that its program is tried on; the suite makes an error of the warning that asked for a report."""
    native, why = compiled_or_why(lambda x: [torch.linalg.cholesky(x)], [-torch.eye(3)])
    assert native is None and why.startswith("a matrix in it has no factor")
