"""The BLAS and LAPACK that programs call: whose they are, and how many threads they may use."""

from __future__ import annotations

import ctypes
import functools
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from .blas import NAMES


@dataclass(frozen=True)
class Found:
    """BLAS and LAPACK.

    Attributes:
        floats, doubles: Addresses of the functions in `NAMES`.
        set_threads: Address of MKL's function that sets the number of threads of the thread that calls it; None without MKL.
        products: OpenBLAS, if it computes the matrix products in place of MKL.
    """

    floats: list[int]
    doubles: list[int]
    set_threads: int | None = None
    products: OpenBLAS | None = None


class OpenBLAS:
    """SciPy's OpenBLAS, whose number of threads holds for the whole process.

    Args:
        library: A library that is linked against it.

    Raises:
        AttributeError: SciPy is linked against another one.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        prefix = "scipy_" if hasattr(library, "scipy_openblas_get_num_threads") else ""
        self._get = getattr(library, f"{prefix}openblas_get_num_threads")
        self._set = getattr(library, f"{prefix}openblas_set_num_threads")
        self._lock, self._inside, self._before = threading.Lock(), 0, 1

    @contextmanager
    def one_thread(self) -> Iterator[None]:
        """Within, products use the thread that calls them; afterwards the process has the number of threads that it had."""
        with self._lock:
            self._inside += 1
            if self._inside == 1 and (before := self._get()) > 1:
                self._before = before
                self._set(1)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside and self._before > 1:
                    self._set(self._before)
                    self._before = 1


@functools.cache
def blas() -> Found:
    """The functions that torch itself calls, otherwise SciPy's.

    MKL's matrix products take twice as long as OpenBLAS' on processors of other makers that have AVX-512. There products are by SciPy's OpenBLAS, and only they:
    triangular solves of one column were slower.
    """
    try:
        torch_cpu = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        floats, doubles = ([_address(getattr(torch_cpu, f"{f}{name}_")) for name in NAMES] for f in "sd")
    except (OSError, AttributeError):
        floats, doubles = ([_of_scipy(f, name) for name in NAMES] for f in "sd")
        return Found(floats, doubles)
    mkl = getattr(torch_cpu, "MKL_Set_Num_Threads_Local", None)
    found = Found(floats, doubles, _address(mkl) if mkl else None)
    if not mkl or _maker() in ("GenuineIntel", ""):
        return found
    try:
        from scipy.linalg import cython_blas

        openblas = OpenBLAS(ctypes.CDLL(cython_blas.__file__))
    except (ImportError, OSError, AttributeError):
        return found
    floats[0], doubles[0] = (_of_scipy(f, "gemm") for f in "sd")
    return Found(floats, doubles, found.set_threads, openblas)


def _maker() -> str:
    """The processor's maker, as Linux names it; empty where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("vendor_id")), "")


def _of_scipy(letter: str, name: str) -> int:
    from scipy.linalg import cython_blas, cython_lapack

    return _capsule(cython_lapack if name == "potrf" else cython_blas, letter + name)


def _address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def _capsule(module: ModuleType, name: str) -> int:
    capsule, api = module.__pyx_capi__[name], ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return int(api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule)))
