"""The intermediate form: printed, checked, run by NumPy, and a failure that names its pass."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from vbayes.staging.machine_code import compile_native, compiled_or_why, say_once, simplified
from vbayes.staging.native import Broken, emit, first_departure, interpret, passes, show, translate, verify
from vbayes.staging.native.ir import (
    ArgExtreme,
    Assembly,
    Cholesky,
    Gather,
    Graph,
    Input,
    Iota,
    Pointwise,
    Product,
    Reduction,
    Scan,
    Scatter,
    Triangular,
    View,
)  # fmt: skip
from vbayes.staging.native.memory import Place, lay_out
from vbayes.staging.native.ops import COMBINES, OPS
from vbayes.staging.native.rules import RULES
from vbayes.staging.native.schedule import LARGE, MOST, Kernel, Schedule, schedule

F, I = torch.float64, torch.int64  # noqa: E741
SUM = COMBINES["sum"]
X, Y, N = Input((3, 4), F), Input((4,), F), Input((3, 4), I)


def whole(value):
    return View.whole(value)


def pointwise(op, *operands, shape=(3, 4), dtype=F, types=None):
    views = tuple(whole(o) if isinstance(o, (Input, Pointwise, Reduction)) else o for o in operands)
    return Pointwise(shape, dtype, views, op=OPS[op], types=types or (F,) * len(views))


def graph(*outputs, inputs=(X, Y, N), states=0):
    return Graph(inputs, (), outputs, states)


def strided(value, shape, strides, offset=0, dtype=None):
    memory = torch.empty(1000, dtype=dtype or value.dtype, device="meta")
    return View(value, memory.as_strided(shape, strides, offset))


EXP = pointwise("exp", X)
TOTAL = Reduction((4,), F, (whole(EXP),), dims=(0,), by=SUM)
SPREAD = Pointwise((3, 4), F, (whole(EXP), whole(TOTAL).expand((3, 4))), op=OPS["div"], types=(F, F))
PROGRAM = graph(pointwise("add", Y, TOTAL, shape=(4,)), SPREAD, inputs=(Y, X), states=1)


def test_a_program_reads_like_this():
    assert show(PROGRAM).splitlines() == [
        "program(in0: float64[4], in1: float64[3, 4]) with 1 states",
        "%0: float64[3, 4] = exp(in1)",
        "%1: float64[4] = sum(%0) {dims 0}",
        "%2: float64[4] = add(in0, %1)",
        "%3: float64[3, 4] = div(%0, %1[3, 4; strides 0, 1])",
        "return %2, %3",
    ]
    scheduled = schedule(PROGRAM)
    assert [line for line in show(scheduled).splitlines() if line.startswith("kernel")] == [
        "kernel 0 over [3, 4]:", "kernel 1 over [4]:", "kernel 2 over [3, 4]:",
    ]  # fmt: skip
    text = show(lay_out(scheduled))
    assert "  %0: float64[3, 4] = exp(in1)  -> work + 0\n" in text and "add(in0, %1)  -> in[0]\n" in text
    assert "div(%0, %1[3, 4; strides 0, 1])  -> out[0]" in text and "work: 192 bytes" in text
    offset = pointwise("neg", strided(X, (2,), (4,), 3), shape=(2,))
    assert show(graph(offset)).splitlines()[1] == "%0: float64[2] = neg(in0[2; strides 4; offset 3])"
    argmax = ArgExtreme((3,), I, (whole(X),), dim=1, largest=True)
    assert show(graph(argmax)).splitlines()[1] == "%0: int64[3] = arg_extreme(in0) {dim 1; largest True}"


def test_the_interpreter_gives_the_numbers_of_torch_after_each_pass():
    y, x = torch.arange(4.0).double(), torch.linspace(-1, 1, 12).double().view(3, 4)
    right = [y + x.exp().sum(0), x.exp() / x.exp().sum(0)]
    scheduled = schedule(PROGRAM)
    for form in (PROGRAM, scheduled, lay_out(scheduled)):
        verify(form)
        for mine, theirs in zip(interpret(form, [y, x]), right, strict=True):
            torch.testing.assert_close(mine, theirs)
    beyond = Gather((3,), F, (whole(Y), strided(N, (3,), (4,))), places=(0,), loops=())
    with pytest.raises(IndexError):
        interpret(graph(beyond), [x, y, torch.full((3, 4), -5)])


def test_copies_of_what_is_cheap_leave_the_graph_as_it_was():
    """Immutable: scheduling makes new values, and the old program still is what it was."""
    large = Input((LARGE,), F)
    double = Pointwise((LARGE,), F, (whole(large), 2), op=OPS["mul"], types=(F, F))
    outputs = [Pointwise((LARGE,), F, (whole(double), n), op=OPS["add"], types=(F, F)) for n in (1, 2)]
    before = graph(*outputs, inputs=(large,))
    text, after = show(before), schedule(before)
    assert show(before) == text and before.outputs == tuple(outputs)
    assert show(after.graph).count("mul(") == 2 and text.count("mul(") == 1
    with pytest.raises(AttributeError):
        double.op = OPS["add"]


def test_a_long_program_is_made_in_parts():
    """gcc takes the square of the length of a function: a time loop of two hundred steps, in one, took it minutes."""
    rows = [pointwise("exp", strided(Y, (1,), (1,), n % 4), shape=(1,)) for n in range(3 * MOST)]
    total = rows[0]
    for row in rows[1:]:
        total = pointwise("add", total, row, shape=(1,))
    scheduled = schedule(graph(total))
    verify(lay_out(scheduled))
    assert {len(kernel.values) for kernel in scheduled.kernels[:-1]} == {MOST} and len(scheduled.kernels) == 6
    made, right = (
        interpret(form, [torch.zeros(3, 4).double(), torch.ones(4).double(), torch.zeros(3, 4).long()])[0]
        for form in (scheduled, graph(total))
    )
    assert torch.equal(made, right) and abs(made.item() - 3 * MOST * torch.e) < 1e-9


def test_kernels_that_are_alike_are_one_function():
    """A time loop has the same products in each of its steps."""
    matrices = [Input((4, 4), F) for _ in range(9)]
    made = matrices[0]
    for other in matrices[1:]:
        made = Product((4, 4), F, (whole(made), whole(other)))
    layout = lay_out(schedule(Graph(tuple(matrices), (), (made,))))
    source = emit.emit(layout, "")
    calls = re.findall(r"^  (k\d+)\(", source, re.M)
    assert len(calls) == 8 and len(set(calls)) == source.count("static void k") == 1


INDEX = strided(N, (3,), (4,))
GRAPHS = {  # what is wrong: the program, and what it is told
    "an operand of nobody": (graph(pointwise("exp", Input((3, 4), F))), "not defined"),
    "a shape": (graph(pointwise("exp", Y)), "another shape"),
    "out of bounds": (graph(pointwise("exp", strided(X, (3, 4), (4, 1), 1))), "beyond its array"),
    "another type": (graph(pointwise("exp", strided(X, (3, 4), (4, 1), dtype=I))), "read as another type"),
    "operands": (graph(pointwise("add", X)), "add takes 2 operands"),
    "casts": (graph(pointwise("exp", X, types=(I,))), "cast to types"),
    "logic": (graph(pointwise("lt", X, 0)), "cast to types"),
    "no type of C": (graph(pointwise("exp", X, dtype=torch.float16)), "a type that C does not have"),
    "dimensions": (graph(Reduction((4,), F, (whole(X),), dims=(2,), by=SUM)), "that the operand does not have"),
    "a total's shape": (graph(Reduction((3,), F, (whole(X),), dims=(0,), by=SUM)), "without the dimensions"),
    "iota": (graph(Iota((3, 4), I)), "more than one dimension"),
    "places": (graph(Gather((3,), F, (whole(Y), INDEX), places=(0, None), loops=())), "do not fit the dimensions"),
    "an index": (graph(Gather((4,), F, (whole(Y), whole(Y)), places=(0,), loops=())), "an index array of another shape or type"),
    "no loop": (graph(Gather((3,), F, (whole(X), INDEX), places=(0, None), loops=())), "loops do not fit"),
    "a long loop": (graph(Gather((3, 4), F, (strided(X, (3, 3), (4, 1)), whole(N)), places=(0, None), loops=(1,))), "a loop runs beyond"),
    "a scattered base": (graph(Scatter((4,), F, (whole(X), strided(X, (3,), (4,)), INDEX), places=(0,), loops=(), accumulate=True)), "a base that is not of its shape"),
    "a product": (graph(Product((3, 3), F, (whole(X), whole(X)))), "matrices that do not fit"),
    "a product's types": (graph(Product((3, 3), F, (whole(X), strided(N, (4, 3), (1, 4))))), "an operand of another type"),
    "a part": (graph(Assembly((5,), F, (whole(Y),), parts=((2, (1,), (4,)),))), "a part beyond the array"),
    "a part's shape": (graph(Assembly((5,), F, (whole(Y),), parts=((0, (1,), (3,)),))), "a part of another shape"),
    "a scan": (graph(Scan((3, 4), F, (whole(X),), dim=2)), "shapes do not fit"),
    "an argument": (graph(ArgExtreme((3,), F, (whole(X),), dim=1, largest=True)), "does not fit the operand"),
    "a factor": (graph(Cholesky((3, 4), F, (whole(X),))), "matrices that do not fit"),
    "a solution": (graph(Triangular((3, 4), F, (whole(X), whole(X)), upper=False, unit=False)), "matrices that do not fit"),
    "a state": (graph(EXP, inputs=(Y, X), states=1), "a state that changes its shape"),
    "one array twice": (graph(EXP, EXP), "outputs that are one array"),
}  # fmt: skip


@pytest.mark.parametrize("case", GRAPHS)
def test_a_broken_graph_is_told(case):
    program, reason = GRAPHS[case]
    with pytest.raises(Broken, match=f"{reason}.*: `.*`"):
        verify(program)


def broken_schedules():
    right = schedule(PROGRAM)
    first, second, third = right.kernels
    base = Gather((3,), F, (whole(TOTAL), INDEX), places=(0,), loops=())
    gathers = graph(base, inputs=(X, N))
    fused = Pointwise((4,), F, (whole(Y),), op=OPS["exp"], types=(F,))
    inside = Gather((4,), F, (whole(fused), strided(N, (4,), (1,))), places=(0,), loops=())
    product = Product((3, 3), F, (whole(X), strided(X, (4, 3), (1, 4))))
    return {
        "an order": (replace(right, kernels=(second, first, third)), "read before it is made"),
        "twice": (replace(right, kernels=(first, first, second, third)), "made twice"),
        "never": (replace(right, kernels=(first, second)), "never made"),
        "loops": (replace(right, kernels=(Kernel((4, 3), first.values), second, third)), "does not fit loops over"),
        "not in step": (replace(right, kernels=(Kernel((3, 4), (*first.values, SPREAD)), second)), "read before it is made"),
        "company": (Schedule(gathers, (Kernel(None, (product, product)),)), "a kernel of its own kind with several values"),
        "a base that is still made": (
            Schedule(graph(inside), (Kernel((4,), (fused, inside)),)), "read before it is made",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("case", broken_schedules())
def test_a_broken_schedule_is_told(case):
    program, reason = broken_schedules()[case]
    with pytest.raises(Broken, match=reason):
        verify(program)


def broken_layouts():
    right = lay_out(schedule(PROGRAM))
    new, ratio = PROGRAM.outputs
    elsewhere = lambda value, *place: replace(right, places={**right.places, value: Place(*place)})  # noqa: E731
    # A state that is written while its other elements are still needed: it has to be moved when all is done.
    turned = pointwise("neg", strided(Y, (4,), (1,)), shape=(4,))
    reader = Pointwise((3, 4), F, (whole(X), whole(Y).expand((3, 4))), op=OPS["add"], types=(F, F))
    later = lay_out(schedule(graph(turned, reader, inputs=(Y, X), states=1)))
    assert later.moves == ((turned, Y),)
    total = Reduction((), F, (whole(turned),), dims=(0,), by=SUM)
    apart = Pointwise((4,), F, (strided(Y, (4,), (0,)),), op=OPS["exp"], types=(F,))
    same = lay_out(schedule(graph(apart, total, inputs=(Y,), states=1)))
    return {
        "over another": (elsewhere(TOTAL, "work", 0), "written over what its kernel still needs"),
        "over another in part": (elsewhere(TOTAL, "work", 64), "written over what its kernel still needs"),
        "lost": (elsewhere(new, "work", 0), "overwritten before it is read"),
        "beyond": (elsewhere(TOTAL, "work", 192), "beyond the working memory"),
        "nowhere": (
            replace(right, places={v: p for v, p in right.places.items() if v is not TOTAL}), "stored nowhere",
        ),
        "not stored": (replace(right, stored=right.stored - {TOTAL}), "overwritten before it is read"),
        "an output": (elsewhere(ratio, "out", 1), "not where the caller looks"),
        "not moved": (replace(later, moves=()), "not where the caller looks"),
        "a state too early": (
            replace(same, moves=(), overwrites={apart: Y}, places={**same.places, apart: same.places[Y]}),
            "written over what its kernel still needs",
        ),
        "moved too late": (
            replace(later, places={**later.places, turned: later.places[reader]}), "overwritten before it is moved|still needs",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("case", broken_layouts())
def test_a_broken_layout_is_told(case):
    program, reason = broken_layouts()[case]
    with pytest.raises(Broken, match=reason):
        verify(program)


def small(a, x):
    return [a + (2 * x).exp().sum(0), x / x.exp().sum(0)]


INPUTS = [torch.arange(4.0), torch.linspace(-1, 1, 12).view(3, 4)]


def test_the_first_pass_that_departs_is_found():
    right = translate(simplified(small, INPUTS), states=1)

    def agrees(made):
        return all(torch.allclose(a, b) for a, b in zip(made, small(*INPUTS), strict=True))

    total = next(v for v in right.graph.values() if isinstance(v, Reduction))
    outputs = tuple(v.reading((v.views[0], -1.0)) if len(v.views) == 1 else v for v in right.graph.outputs)
    wrong_graph = replace(right.graph, outputs=(outputs[0].reading((outputs[0].views[0], 0.0)), *outputs[1:]))
    wrong_places = {**right.layout.places, right.schedule.graph.outputs[1]: right.layout.places[total]}
    assert first_departure(right, INPUTS, agrees) == "C"
    assert first_departure(replace(right, graph=wrong_graph), INPUTS, agrees) == "lowering"
    late = replace(right.schedule, kernels=right.schedule.kernels[::-1])
    assert first_departure(replace(right, schedule=late), INPUTS, agrees) == "scheduling"
    lost = replace(right.layout, places=wrong_places)
    assert first_departure(replace(right, layout=lost), INPUTS, agrees) == "memory"


FAULTS = {
    "lowering": (RULES, "sub", RULES["add"]),
    "C": (passes, "emit", lambda *a: emit.emit(*a).replace("expf(v", "sinf(v")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_code_with_other_numbers_names_the_pass(name, monkeypatch):
    owner, attribute, fault = FAULTS[name]
    (monkeypatch.setitem if isinstance(owner, dict) else monkeypatch.setattr)(owner, attribute, fault)
    say_once.cache_clear()
    with pytest.warns(
        UserWarning, match=f"for output 0; the first pass with different numbers is {name}. Please report"
    ):
        native, why = compiled_or_why(lambda x: [x - x.exp()], [torch.linspace(-1, 1, 5)])
    assert native is None and "numbers differ from torch" in why


def test_a_pass_that_fails_is_named(monkeypatch):
    say_once.cache_clear()
    monkeypatch.setattr(passes, "schedule", lambda graph: Schedule(graph, ()))
    with pytest.warns(UserWarning, match="making machine code failed: scheduling failed: Broken.*never made"):
        assert compiled_or_why(lambda x: [x.exp()], [torch.ones(3)])[0] is None


def test_short_loops_and_products_are_one_threads():
    """Where other processes want the processor, a second thread comes milliseconds late."""
    a, b = torch.ones(64, 100), torch.ones(100, 100)
    short = compile_native(lambda a, b: [(a @ b).exp().sum(1)], [a, b]).source
    assert "parallel for" not in short and "ALONE(sgemm(" in short and ", 1);" in short
    a, b = torch.ones(2000, 100), torch.ones(100, 1000)
    long = compile_native(lambda a, b: [(a @ b).exp().sum(1)], [a, b]).source
    assert "parallel for" in long and "sgemm(" in long and "ALONE(" not in long and ", threads);" in long
