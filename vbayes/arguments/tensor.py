"""Tensors, tables and axes. It does not import torch, pandas or matplotlib, as a caller who passes one has loaded them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from .kind import refuse
from .real import real
from .said import word, written


@dataclass(frozen=True)
class Tensor:
    """A dense tensor of real numbers.

    Attributes:
        any_kind: Whether other tensors are accepted too, such as those without elements.
    """

    any_kind: bool = False
    words: str = "a dense tensor of real numbers"
    example: str = "torch.tensor([0.5, 1.0])"

    def __call__(self, name: str, value: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(value, torch.Tensor):
            refuse(name, value, wanted=self.words, mend=f"{word(name)}={_made_of(name, value) or self.example}")
        if not self.any_kind and (found := odd(value)):
            refuse(name, value, got=f"a tensor {found[0]}", wanted=self.words, mend=found[1].format(x=name))
        return value


def _made_of(name: str, value: Any) -> str:
    """How to make a tensor of numbers that are none yet; empty if they are no numbers."""
    if hasattr(value, "shape"):
        return f"torch.as_tensor({word(name)})"
    listed = isinstance(value, (list, tuple)) and len(value) > 0 and all(real(one) is not None for one in value)
    if not listed and real(value) is None:
        return ""
    return f"torch.tensor({written(value) or word(name)})"


def odd(tensor: Any) -> tuple[str, str] | None:
    """What makes a tensor unusable, and how to fix it; None if it is fine."""
    if tensor.layout != sys.modules["torch"].strided:
        return "that is sparse", "pass {x}.to_dense()"
    if tensor.is_complex():
        return "of complex numbers", "pass its real and imaginary parts as two columns, {x}.real and {x}.imag"
    if tensor.is_quantized:
        return "of quantised numbers", "pass {x}.dequantize()"
    if tensor.device.type == "meta":
        return "without numbers, on the device 'meta'", "make it on 'cpu'"
    return None


@dataclass(frozen=True)
class Table:
    """A pandas table as returned by functions of vbayes.

    Attributes:
        columns: Required columns.
    """

    columns: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return "a pandas.DataFrame" + (f" with the columns {', '.join(self.columns)}" if self.columns else "")

    @property
    def example(self) -> str:
        return "result.to_dataframe()"

    def __call__(self, name: str, value: Any) -> Any:
        pandas = sys.modules.get("pandas")
        if pandas is None or not isinstance(value, pandas.DataFrame):
            refuse(name, value, wanted=self.words, mend=f"{name}={self.example}")
        if missing := [column for column in self.columns if column not in value.columns]:
            refuse(
                name,
                value,
                got=f"a table without {', '.join(missing)}",
                wanted=self.words,
                mend=f"{name}={self.example}",
            )
        return value


@dataclass(frozen=True)
class Axes:
    """Matplotlib's axes."""

    words: str = "matplotlib's Axes"
    example: str = "matplotlib.pyplot.subplots()[1]"

    def __call__(self, name: str, value: Any) -> Any:
        if not (callable(getattr(value, "plot", None)) and callable(getattr(value, "get_xlim", None))):
            refuse(name, value, wanted=self.words, mend=f"{name}={self.example}")
        return value


TENSOR, TABLE, AXES = Tensor(), Table(), Axes()
