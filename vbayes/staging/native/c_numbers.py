"""Numbers in C: the names of their types, and constants."""

from __future__ import annotations

import math

import torch

from .ops import Combine

TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.uint8: "uint8_t",
    torch.bool: "uint8_t",
}


def literal(value: float | int | bool, dtype: torch.dtype) -> str:
    """A Python number as a C constant of that type."""
    if not dtype.is_floating_point:
        if int(value) == torch.iinfo(torch.int64).min:  # which has no literal of its own
            return f"(INT64_C({int(value) + 1}) - 1)"
        return f"INT64_C({int(value)})" if dtype == torch.int64 else f"({int(value)})"
    value, suffix = float(value), "f" if dtype == torch.float32 else ""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "(-INFINITY)"
    return f"({float(torch.tensor(value, dtype=dtype))!r}{suffix})"


def start(by: Combine, dtype: torch.dtype) -> str:
    """What a total of that type starts from."""
    if by.start is not None:
        return literal(by.start, dtype)
    least = by.name == "amax"
    if dtype.is_floating_point:
        return literal(-math.inf if least else math.inf, dtype)
    if dtype == torch.bool:
        return "0" if least else "1"
    limits = torch.iinfo(dtype)
    # The least int64 has no literal of its own.
    return f"({limits.min + 1} - 1)" if least else f"({limits.max})"
