"""`jax.jit`, and on a processor a small program as one kernel.

There XLA's executor calls the kernels of a step one after the other, at some hundred nanoseconds each: more than what most of them do in a program of a few numbers. XLA can emit a
computation, loops and all, as one function of machine code, and does so by itself for the very smallest loops; a call that is marked is taken for such a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import torch
from jax.experimental.xla_metadata import set_xla_metadata

SMALL = (
    2**20
)  # bytes that a run makes: of logistic regression on 30, 300, 1000 and 3000 columns a step takes .4, .45, .9 and 1.05 × as long as in kernels
ONE_KERNEL = {"inlineable": "false", "xla_cpu_small_call": "true"}
FULL = "RESOURCE_EXHAUSTED"  # as jax's errors begin where there is no memory left
MEND = "Fix: fewer rows (batch_size=), particles or replicas at a time, or compile='torch'."
EMITTED = frozenset(
    """
    abs acos acosh add and argmax argmin asin asinh atan atan2 atanh bessel_i0e bessel_i1e bitcast_convert_type broadcast_in_dim cbrt ceil clamp concatenate cond
    convert_element_type copy cos cosh cumlogsumexp cummax cummin cumprod cumsum custom_jvp_call custom_vjp_call digamma div dynamic_slice
    dynamic_update_slice eq erf erf_inv erfc exp exp2 expand_dims expm1 floor gather ge gt igamma igammac integer_pow iota is_finite jit le lgamma log
    log1p logistic lt max min mul ne neg nextafter not or pad pjit platform_index polygamma pow random_bits random_fold_in random_gamma random_seed
    random_split random_unwrap random_wrap reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum regularized_incomplete_beta rem reshape
    rev round rsqrt scan select_n shift_left shift_right_arithmetic shift_right_logical sign sin sinh slice split sqrt square squeeze stack
    stop_gradient sub tan tanh threefry2x32 transpose while xor zeta
    """.split()
)
"""jax's operations that its emitter of whole computations knows. What a library is called for (products of matrices, decompositions, sorting) and scattering is not among them."""


class Jitted:
    """A function, compiled at its first call, which waits for what it makes.

    Args:
        fn: Of arrays, of the same shapes at each call.
        small: Whether it runs on a processor and makes less than `SMALL` bytes.
        options: XLA's, for its compiler.

    Attributes:
        one_kernel: Whether it is one; known after a call.
    """

    def __init__(self, fn: Callable[..., Any], *, small: bool, options: dict[str, Any] | None = None) -> None:
        self._plain = jax.jit(fn, compiler_options=options)
        self._made: Any = None if small else self._plain

    def __call__(self, *args: Any) -> Any:
        """One call.

        Raises:
            torch.OutOfMemoryError: Even without what torch keeps of the memory that it has freed.
        """
        for freed in (False, True):
            try:
                return jax.block_until_ready(self._run(*args))
            except jax.errors.JaxRuntimeError as error:
                if FULL not in str(error):
                    raise
                if freed:
                    raise torch.OutOfMemoryError(f"XLA: {str(error).splitlines()[0]} {MEND}") from error
            torch.cuda.empty_cache()
        raise AssertionError

    def _run(self, *args: Any) -> Any:
        if self._made is None:
            self._made = self._plain
            if emitted(self._plain.trace(*args).jaxpr.jaxpr):
                one = jax.jit(self._marked)
                try:
                    made = one(*args)
                except jax.errors.JaxRuntimeError:  # what a version of XLA can't emit
                    return self._plain(*args)
                self._made = one
                return made
        return self._made(*args)

    @property
    def one_kernel(self) -> bool:
        return self._made not in (None, self._plain)

    def _marked(self, *args: Any) -> Any:
        first, *others = self._plain(*args)
        return [set_xla_metadata(first, **ONE_KERNEL), *others]


def emitted(program: Any) -> bool:
    """Whether all that a jaxpr does can be in one kernel."""
    return all(_known(each) and all(map(emitted, _inside(each))) for each in program.eqns)


def _known(each: Any) -> bool:
    if each.primitive.name != "dot_general":
        return each.primitive.name in EMITTED
    (contracted, _), (together, _) = each.params["dimension_numbers"]
    left, right = (operand.aval.ndim - len(contracted) for operand in each.invars)
    return not together and (left == 0 or right == 0)  # products of matrices are a library's


def _inside(each: Any) -> list[Any]:
    """The programs that an operation runs."""
    values = [v for value in each.params.values() for v in (value if isinstance(value, (tuple, list)) else (value,))]
    return [program for value in values if hasattr(program := getattr(value, "jaxpr", value), "eqns")]
