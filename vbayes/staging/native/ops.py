"""Pointwise operations of ATen as C expressions."""

from __future__ import annotations

import math

import torch

TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.uint8: "uint8_t",
    torch.bool: "uint8_t",
}

# Operands are cast to the type that the result has; `{f}` is the suffix of C's float functions.
ARITHMETIC = {
    "abs": "fabs{f}({0})", "acos": "acos{f}({0})", "asin": "asin{f}({0})", "atan": "atan{f}({0})",
    "ceil": "ceil{f}({0})", "cos": "cos{f}({0})", "cosh": "cosh{f}({0})", "erf": "erf{f}({0})", "erfc": "erfc{f}({0})",
    "exp": "exp{f}({0})", "expm1": "expm1{f}({0})", "floor": "floor{f}({0})", "log": "log{f}({0})",
    "log10": "log10{f}({0})", "log1p": "log1p{f}({0})", "log2": "log2{f}({0})", "neg": "-{0}",
    "reciprocal": "1 / {0}", "relu": "{0} < 0 ? 0 : {0}", "round": "rint{f}({0})", "rsqrt": "1 / sqrt{f}({0})",
    "sigmoid": "1 / (1 + exp{f}(-{0}))", "sign": "({0} > 0) - ({0} < 0)", "sin": "sin{f}({0})", "sinh": "sinh{f}({0})",
    "sqrt": "sqrt{f}({0})", "square": "{0} * {0}", "tan": "tan{f}({0})", "tanh": "tanh{f}({0})", "trunc": "trunc{f}({0})",
    "digamma": "digamma{f}({0})", "lgamma": "lgamma{f}({0})", "erfinv": "erfinv{f}({0})",
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "pow": "pow{f}({0}, {1})",
    "maximum": "{0} > {1} || {0} != {0} ? {0} : {1}", "minimum": "{0} < {1} || {0} != {0} ? {0} : {1}",
    "fmod": "fmod{f}({0}, {1})", "hypot": "hypot{f}({0}, {1})", "atan2": "atan2{f}({0}, {1})",
    "clone": "{0}", "_to_copy": "{0}", "lift_fresh_copy": "{0}", "detach": "{0}",
}  # fmt: skip

# Operands are cast to the type that they have together; the result is true or false.
LOGIC = {
    "eq": "{0} == {1}", "ne": "{0} != {1}", "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}", "ge": "{0} >= {1}",
    "logical_and": "{0} != 0 & {1} != 0", "logical_or": "{0} != 0 | {1} != 0", "logical_xor": "({0} != 0) ^ ({1} != 0)",
    "logical_not": "{0} == 0", "isnan": "{0} != {0}", "isinf": "{0} == INFINITY || {0} == -INFINITY",
}  # fmt: skip

BITS = {
    "bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}",
    "__lshift__": "{0} << {1}", "__rshift__": "{0} >> {1}",
}  # fmt: skip

# Where C has another word for integers.
INTEGERS = {
    "abs": "{0} < 0 ? -{0} : {0}",
    "floor": "{0}",
    "ceil": "{0}",
    "round": "{0}",
    "trunc": "{0}",
    "fmod": "{0} % {1}",
}

PRELUDE = """\
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <omp.h>

{vector_math}
static double digamma(double x) {{
  double shift = 0;
  if (x == 0) return copysign(INFINITY, -x);
  if (x < 0) {{
    if (x == floor(x)) return NAN;
    shift = -M_PI / tan(M_PI * x);
    x = 1 - x;
  }}
  while (x < 10) {{ shift -= 1 / x; x += 1; }}
  const double y = 1 / (x * x);
  const double series = y * (1. / 12 - y * (1. / 120 - y * (1. / 252 - y * (1. / 240 - y * (1. / 132 - y * 691. / 32760)))));
  return shift + log(x) - 0.5 / x - series;
}}
static float digammaf(float x) {{ return (float)digamma(x); }}
static double trigamma(double x) {{
  double shift = 0;
  if (x <= 0) {{
    if (x == floor(x)) return INFINITY;
    const double s = M_PI / sin(M_PI * x);
    return s * s - trigamma(1 - x);
  }}
  while (x < 10) {{ shift += 1 / (x * x); x += 1; }}
  const double y = 1 / (x * x);
  const double series = 1. / 6 - y * (1. / 30 - y * (1. / 42 - y * (1. / 30 - y * (5. / 66 - y * (691. / 2730)))));
  return shift + (1 + 0.5 / x + y * series) / x;
}}
static float trigammaf(float x) {{ return (float)trigamma(x); }}
static double erfinv(double y) {{
  /* Giles 2010, Approximating the erfinv function, for a start; two steps of Newton make it exact. */
  if (!(fabs(y) < 1)) return fabs(y) == 1 ? copysign(INFINITY, y) : NAN;
  const double a = fabs(y);
  double w = -log((1 - a) * (1 + a)), x;
  if (w < 5) {{
    w -= 2.5;
    x = 2.81022636e-08;
    x = 3.43273939e-07 + x * w; x = -3.5233877e-06 + x * w; x = -4.39150654e-06 + x * w;
    x = 0.00021858087 + x * w; x = -0.00125372503 + x * w; x = -0.00417768164 + x * w;
    x = 0.246640727 + x * w; x = 1.50140941 + x * w;
  }} else {{
    w = sqrt(w) - 3;
    x = -0.000200214257;
    x = 0.000100950558 + x * w; x = 0.00134934322 + x * w; x = -0.00367342844 + x * w;
    x = 0.00573950773 + x * w; x = -0.0076224613 + x * w; x = 0.00943887047 + x * w;
    x = 1.00167406 + x * w; x = 2.83297682 + x * w;
  }}
  x *= a;
  for (int i = 0; i < 2; i++) x += (erfc(x) - (1 - a)) / (M_2_SQRTPI * exp(-x * x));
  return copysign(x, y);
}}
static float erfinvf(float y) {{ return (float)erfinv(y); }}
"""


def literal(value: float | int | bool, dtype: torch.dtype) -> str:
    """A Python number as a C constant of that type."""
    if not dtype.is_floating_point:
        return f"INT64_C({int(value)})" if dtype == torch.int64 else f"({int(value)})"
    value, suffix = float(value), "f" if dtype == torch.float32 else ""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "(-INFINITY)"
    return f"({float(torch.tensor(value, dtype=dtype))!r}{suffix})"
