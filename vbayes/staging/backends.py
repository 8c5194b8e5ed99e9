"""The back ends that compile a function of tensors: our own machine code, XLA, or torch alone.

On a CPU, "auto" uses machine code, whatever the size, and XLA if there is none; on a GPU, XLA. It does not time them: back ends differ in the last bits, so the result of a fit
would depend on what else the machine does. Nor is it necessary, as these µs of processor time per step show (one thread, measured in turns; logistic regression on 200 rows unless
stated otherwise):

| | machine code | XLA |
|---|---|---|
| eight schools | 1.3 | 1.9 |
| mean field, D = 30, 300, 3000, 100 000 | 5, 13, 96, 11 000 | 9, 24, 430, 49 000 |
| mean field, D = 100, 1000 rows, K = 64 | 670 | 1 060 |
| full rank, D = 100, 500, 1000 | 38, 450, 2 320 | 73, 1 410, 8 120 |
| full rank, D = 100, K = 64 | 380 | 1 590 |
| Bayesian network | 54 | 73 |
| VAE 784-400-20 | 4 650 | 6 190 |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from .. import rng
from ..errors import BadInput
from .machine_code import NO_FACTOR, compiled_or_why, differing, say_once, simplified
from .native import Native
from .trace import in_words, known_limit
from .xla import jax, missing

if TYPE_CHECKING:
    from .xla.program import XLA

Compile = Literal["auto", "native", "xla", "torch"] | bool
Function = Callable[..., Sequence[Tensor]]
BACKENDS = ("native", "xla", "torch")
NO_C = "there is machine code for tensors on the CPU only"
LONG = 8000  # operations, over which its compiler takes a minute: 4900 of them (a time loop of 25) 3 s, 9600 13 s, 19 000 35 s
TF32 = 2.0**-10  # relative, between two of its numbers
DRAWS = "some of its random numbers are not made of normals and uniforms"


def require_backend(value: Any) -> None:
    """Rejects a `compile=` that is not available on this machine.

    Raises:
        BadInput: XLA is asked for by name and jax is not installed.
    """
    if value == "xla" and (why := missing("cpu")):
        raise BadInput(f"compile='xla', but {why}. Or use compile='auto', which uses what is available.")


def asked_for(value: Any) -> bool:
    """Whether `compile=` asks for a program even if there are few steps."""
    return value is True or value in BACKENDS


def backend_of(value: Any) -> str:
    """The back end named by `compile=`; "auto" if it names none."""
    return value if value in BACKENDS else "auto"


def made_by(
    backend: str,
    fn: Function,
    examples: Sequence[Tensor],
    states: int = 0,
    *,
    draws: bool = False,
    check: Any = None,
    by_xla: Callable[[], Function] | None = None,
) -> tuple[Native | None, XLA | None, str | None]:
    """Compiles a function to machine code, or by XLA; if neither is possible, returns the reason.

    Args:
        backend: "native", "xla", "torch"; or "auto": machine code if possible, otherwise XLA.
        fn, examples, states: As for `compiled_or_why`.
        draws: Whether it draws random numbers besides the noise that it is given.
        check: See `xla_or_why`.
        by_xla: Makes the form of the function for XLA, if that is different.
    """
    if backend == "torch":
        return None, None, "torch was asked for"
    if not all(isinstance(example, Tensor) for example in examples):
        return None, None, "an argument is not a tensor"
    why: str | None = DRAWS if draws else None if all(e.device.type == "cpu" for e in examples) else NO_C
    if backend in ("auto", "native") and why is None:
        native, why = compiled_or_why(fn, examples, states)
        if native is not None:
            return native, None, None
    if backend == "native":
        return None, None, why
    made, reason = xla_or_why(
        by_xla() if by_xla else fn, examples, states, check=check, longest=LONG if backend == "auto" else None
    )
    if made is None and backend == "xla":
        say_once(str(reason))
    return None, made, None if made else reason if backend == "xla" else f"{why}; {reason}"


def xla_or_why(
    fn: Function, examples: Sequence[Tensor], states: int = 0, *, check: Any = None, longest: int | None = None
) -> tuple[XLA | None, str | None]:
    """Compiles a function by XLA, and compares it with torch; or returns the reason why that failed.

    Args:
        check: (program, examples) → its first outputs, when called in the way that it will be called; if None, it is run once.
        longest: Maximum number of operations.
    """
    device = next((example.device for example in examples), torch.device("cpu"))
    if why := missing(device.type):
        return None, why
    try:
        return _held_against_torch(fn, examples, states, device, check, longest)
    except torch.linalg.LinAlgError:
        return None, NO_FACTOR
    except Exception as error:
        if known_limit(error):
            return None, in_words(error)
        if type(error).__name__ in ("Unsupported", "ShapeOfValues", "BackendMissing", "OutOfMemoryError"):
            return None, str(error)
        wrong = f"making a program by XLA failed: {error!r}"  # a bug in our code must not make a fit fail
        say_once(f"{wrong}. Please report this, with the model.")
        return None, wrong


def _held_against_torch(
    fn: Function, examples: Sequence[Tensor], states: int, device: torch.device, check: Any, longest: int | None
) -> tuple[XLA | None, str | None]:
    jax()
    from .xla.program import XLA
    from .xla.rules.linear_algebra import coarse
    from .xla.translate import supported

    graph = simplified(fn, examples, supported)
    if longest is not None and (count := len(graph.graph.nodes)) > longest:
        return None, f"XLA's compiler would take a minute or more for {count} operations; compile='xla' uses it anyway"
    made = XLA(graph, states, device)
    if made.draws:
        with rng.seeded(0), _all_digits(device):
            right, drawn = _with_draws(graph, examples, set(made.drawn))
        found = made.with_draws(examples, drawn)
    else:
        with torch.no_grad(), rng.seeded(0), _all_digits(device):
            right = list(fn(*examples))
        own = [*(t.clone(memory_format=torch.contiguous_format) for t in examples[:states]), *examples[states:]]
        found = (check(made, own) if check else None) or [*own[:states], *made(*own)]
    products = TF32 if device.type == "cuda" and coarse() else 0.0
    number = differing(found, right[: len(found)], examples, products)
    if number is not None:
        why = f"XLA's numbers differ from torch's for output {number}"
        say_once(f"{why}. Please report this, with the model.")
        return None, why
    return made, None


@contextmanager
def _all_digits(device: torch.device) -> Iterator[None]:
    """torch's convolutions on a card in float32, as XLA's are; by default they are in TF32. To be used in turns."""
    cudnn: Any = torch.backends.cudnn
    before = cudnn.conv.fp32_precision
    try:
        if device.type == "cuda":
            cudnn.conv.fp32_precision = "ieee"
        yield
    finally:
        if device.type == "cuda":
            cudnn.conv.fp32_precision = before


class _Recording(Interpreter):
    """Records the draws of some operations."""

    def __init__(self, graph: GraphModule, nodes: set[Node]) -> None:
        super().__init__(graph)
        self._nodes = nodes
        self.drawn: dict[Node, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        made = super().run_node(n)
        if n in self._nodes:
            self.drawn[n] = made
        return made


def _with_draws(graph: GraphModule, examples: Sequence[Tensor], nodes: set[Node]) -> tuple[Any, dict[Node, Tensor]]:
    run = _Recording(graph, nodes)
    with torch.no_grad():
        made = run.run(*examples)
    return list(made), run.drawn
