"""What jax may lack, refuse or run out of, and how precise its products are."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest
import torch

from tests.faults.processes import in_a_child
from vbayes.staging import backends
from vbayes.staging.machine_code import differing, simplified
from vbayes.staging.xla import load

pytest.importorskip("jax")  # the extra `xla`, which the extra `test` brings

import jax

from vbayes.staging.xla.crossing import to_jax
from vbayes.staging.xla.jitted import Jitted
from vbayes.staging.xla.program import XLA
from vbayes.staging.xla.rules import linear_algebra
from vbayes.staging.xla.rules.linear_algebra import coarse, precision
from vbayes.staging.xla.translate import supported

pytestmark = pytest.mark.on_cpu
FULL = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes."


def devices(*numbers):
    return [SimpleNamespace(local_hardware_id=number) for number in numbers]


@pytest.fixture
def asked(monkeypatch):
    """Nothing is known about jax yet, nor will be."""
    load._missing.cache_clear()
    yield monkeypatch
    load._missing.cache_clear()


def test_a_device_has_torchs_number(monkeypatch):
    """Wherever it stands in jax's list, which leaves out what jax has been told not to see."""
    seen = devices(3, 1)
    monkeypatch.setattr(jax, "local_devices", lambda backend: seen)
    assert load.device_of(torch.device("cuda", 1)) is seen[1] and load.device_of(torch.device("cuda", 3)) is seen[0]
    with pytest.raises(load.BackendMissing, match=r"jax does not see cuda:0, only numbers \[1, 3\]"):
        load.device_of(torch.device("cuda", 0))


def test_a_processor_that_jax_has_been_told_to_leave(monkeypatch):
    def refuse(backend):
        raise RuntimeError("Unknown backend cpu. Available backends are ['cuda']")

    monkeypatch.setattr(jax, "local_devices", refuse)
    made, why = backends.xla_or_why(lambda x: [x * 2], [torch.ones(2)])
    assert made is None and why.startswith("jax has no part for 'cpu' (Unknown backend cpu")


@pytest.mark.parametrize(
    "error", [RuntimeError("no driver"), OSError("libcuda.so.1"), ValueError(""), AssertionError()]
)
def test_a_plugin_may_raise_what_it_likes(asked, error):
    def refuse(kind):
        raise error

    asked.setattr(jax, "devices", refuse)
    said = load.missing("cuda")
    assert said.startswith("jax has no part for 'cuda'") and "pip install 'jax[cuda" in said


def test_a_jaxlib_of_another_version(asked):
    """It raises no ImportError."""

    class Refuses:
        def find_spec(self, name, path=None, target=None):
            if name == "jax":
                raise RuntimeError("jaxlib is version 0.4, but this version of jax requires version >= 0.10")

    asked.delitem(sys.modules, "jax")
    asked.setattr(sys, "meta_path", [Refuses(), *sys.meta_path])
    asked.setattr(load.importlib.util, "find_spec", lambda name: object())
    made, why = backends.xla_or_why(lambda x: [x * 2], [torch.ones(2)])
    assert made is None and why.startswith("jax is not there (jaxlib is version 0.4")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_process_does_without():
    """A program there would wait for ever for threads that only its parent has."""
    assert not load.missing("cpu")
    assert in_a_child(lambda: sys.exit("before this process was forked" in load.missing("cpu"))) == 1


def test_memory_that_is_pinned_is_copied(monkeypatch):
    """jax takes it for a card's, also for a program of the processor."""
    x = torch.ones(3)
    assert to_jax(x).unsafe_buffer_pointer() == x.data_ptr() or x.data_ptr() % 64
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: tensor is x or tensor.data_ptr() == x.data_ptr())
    assert to_jax(x).unsafe_buffer_pointer() != x.data_ptr()


def test_memory_that_torch_keeps_is_asked_back(monkeypatch):
    freed, full = [], 0

    def run(self, *args):
        nonlocal full
        if full:
            full -= 1
            raise jax.errors.JaxRuntimeError(FULL)
        return args

    monkeypatch.setattr(Jitted, "_run", run)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(1))
    jitted = Jitted(lambda x: (x,), small=False)
    assert jitted(1) == (1,) and not freed
    full = 1
    assert jitted(2) == (2,) and len(freed) == 1
    full = 2
    with pytest.raises(torch.OutOfMemoryError, match=r"Out of memory while .* Fix: fewer rows \(batch_size=\)"):
        jitted(3)
    full = 2
    made, why = backends.xla_or_why(lambda x: [x * 2], [torch.ones(2)])
    assert made is None and why.startswith("XLA: RESOURCE_EXHAUSTED")  # and no bug is reported


@pytest.mark.parametrize(
    "fn, why",
    [
        (lambda x: [torch.linalg.cholesky(x)], "a matrix in it has no factor"),
        (lambda x: [x * float(x.sum())], "value"),
        (lambda x: [x[x > 0]], "shape"),
    ],
    ids=["factor", "value", "shape"],
)
def test_what_is_no_bug_is_not_to_be_reported(fn, why):
    """As by machine code, which a card has none of."""
    made, said = backends.xla_or_why(fn, [-torch.eye(2)])
    assert made is None and why in said, said


@pytest.fixture
def precise():
    """Products as they are by default."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = conv.fp32_precision
    yield matmul
    matmul.fp32_precision = "ieee"
    torch.set_float32_matmul_precision("highest")
    conv.fp32_precision = before


def test_products_have_all_digits_unless_torch_is_told_otherwise(precise):
    """In its older and in its newer way, after which the older way of asking raises an error."""
    highest, default = jax.lax.Precision.HIGHEST, jax.lax.Precision.DEFAULT
    assert precision() == highest
    for name, wanted in {"high": default, "medium": default, "highest": highest}.items():
        torch.set_float32_matmul_precision(name)
        assert precision() == wanted, name
    precise.fp32_precision = "tf32"
    assert coarse() and precision() == default
    made, why = backends.xla_or_why(lambda x: [x @ x], [torch.eye(2)])
    assert made, why


def test_a_program_that_is_made_follows(precise, monkeypatch):
    """Each precision is a program of its own, of those that jax keeps."""
    asked, ask = [], linear_algebra.precision
    monkeypatch.setattr(linear_algebra, "precision", lambda: asked.append(ask()) or asked[-1])
    run = XLA(simplified(lambda x: [x @ x], [torch.eye(2)], supported), 0, torch.device("cpu"))
    for name in ("highest", "high", "highest", "high"):
        torch.set_float32_matmul_precision(name)
        assert torch.equal(run(torch.eye(2))[0], torch.eye(2))
    assert set(asked) == {jax.lax.Precision.HIGHEST, jax.lax.Precision.DEFAULT}
    before = len(asked)
    run(torch.eye(2))
    assert len(asked) == before


def test_torchs_convolutions_are_precise_where_they_are_compared(precise, monkeypatch):
    """On a card they are in TF32 by default, and XLA's are not."""
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    for where, wanted in {"cuda": "ieee", "cpu": "tf32"}.items():
        with backends._all_digits(torch.device(where)):
            assert torch.backends.cudnn.conv.fp32_precision == wanted
        assert torch.backends.cudnn.conv.fp32_precision == "tf32" and torch.backends.cudnn.allow_tf32


def test_coarse_products_differ_by_no_more_than_their_rounding():
    x = torch.linspace(1.0, 2.0, 100)
    rounded = x * (1 + backends.TF32)
    assert differing([rounded], [x], [x]) == 0 and differing([rounded], [x], [x], backends.TF32) is None
    assert differing([x * 1.1], [x], [x], backends.TF32) == 0


def test_a_program_of_the_processor_has_no_options():
    torch.use_deterministic_algorithms(True)
    try:
        run = XLA(simplified(lambda x: [x * 2], [torch.ones(2)], supported), 0, torch.device("cpu"))
    finally:
        torch.use_deterministic_algorithms(False)
    assert run._options is None
