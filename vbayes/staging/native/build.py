"""Building: C to machine code, by the installed compiler, and the folder where its results are stored."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import hmac
import os
import platform
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

import torch

from .blas import NAMES
from .private_folder import content, drop_oldest, keyed, private_folder, temporary_folder


class CompilerMissing(Exception):
    """No C compiler, or one that fails on our code."""


FLAGS = ("-O3", "-fwrapv", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffp-contract=fast",
         "-fopenmp", "-fPIC", "-shared", "-std=gnu11", "-w")  # fmt: skip
RUNTIME = Path(__file__).with_name("runtime.h")  # what every source includes
THREADS = RUNTIME.with_name("threads.c")  # among which the programs of a process share out their loops
PRODUCTS = RUNTIME.with_name("products.c")  # of matrices; it includes itself
INCLUDED = (RUNTIME, RUNTIME.with_name("implicit.h"), PRODUCTS)
VECTORISED = ("exp", "log", "log1p", "expm1", "tanh", "sin", "cos", "pow", "erf")


@functools.cache
def compiler() -> str:
    """The C compiler's path.

    Raises:
        CompilerMissing: There is none.
    """
    for name in (os.environ.get("CC"), "gcc", "cc"):
        if name and (path := shutil.which(name)):
            return path
    raise CompilerMissing("no C compiler was found (looked for $CC, gcc, cc)")


@functools.cache
def compiler_version() -> str:
    done = subprocess.run([compiler(), "--version"], capture_output=True, text=True)
    return done.stdout.splitlines()[0] if done.stdout else compiler()


@functools.cache
def vector_math() -> str:
    """Declarations that let loops use the C library's vector functions, if it has them (glibc on x86)."""
    if platform.machine() != "x86_64" or "clang" in compiler_version():
        return ""
    try:
        library = ctypes.CDLL("libmvec.so.1")
    except OSError:
        return ""
    lines = []
    for name in VECTORISED:
        arguments = 2 if name == "pow" else 1
        for kind, suffix, lanes in (("double", "", 4), ("float", "f", 8)):
            if hasattr(library, f"_ZGVdN{lanes}{'v' * arguments}_{name}{suffix}"):
                declared = ", ".join([kind] * arguments)
                lines.append(f'__attribute__((simd("notinbranch"))) {kind} {name}{suffix}({declared});')
    return "\n".join(lines)


@functools.cache
def blas() -> tuple[list[int], list[int], int | None]:
    """Addresses of the BLAS and LAPACK functions for floats and for doubles: those that torch itself calls, otherwise SciPy's; and, for MKL only, of the function that sets its number of threads."""
    threads: int | None = None
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        torch_cpu = ctypes.CDLL(str(library))
        floats, doubles = (
            [ctypes.cast(getattr(torch_cpu, f"{f}{name}_"), ctypes.c_void_p).value or 0 for name in NAMES] for f in "sd"
        )
        if set_threads := getattr(torch_cpu, "MKL_Set_Num_Threads_Local", None):
            threads = ctypes.cast(set_threads, ctypes.c_void_p).value
    except (OSError, AttributeError):
        from scipy.linalg import cython_blas, cython_lapack

        floats, doubles = (
            [_capsule(cython_lapack if name == "potrf" else cython_blas, f + name) for name in NAMES] for f in "sd"
        )
    return floats, doubles, threads


def _capsule(module: object, name: str) -> int:
    capsule = module.__pyx_capi__[name]  # type: ignore[attr-defined]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return int(api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule)))


@functools.cache
def processor() -> str:
    """The meaning of `-march=native` on this machine, as code for another processor must not be used from a shared cache."""
    return hashlib.sha256(_macros()).hexdigest()


@functools.cache
def _macros() -> bytes:
    """The compiler's, for this processor."""
    command = [compiler(), "-march=native", "-E", "-dM", "-x", "c", "/dev/null"]
    return subprocess.run(command, capture_output=True).stdout


@functools.cache
def threads() -> list[int | None]:
    """Addresses of what shares out a loop, and of what says which part of it this is, of how many. Its library stays: threads sleep in it."""
    library = build(THREADS.read_text(), lambda path: ctypes.CDLL(str(path)))
    names = ("share", "part_of_thread", "parts_of_loop")
    return [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in names]


@functools.cache
def products() -> ctypes.CDLL | None:
    """The library of `products.c`, on processors for which it is better than torch's BLAS: AMD's, where that is MKL."""
    amd = b"#define __znver" in _macros() and "clang" not in compiler_version()
    return build(PRODUCTS.read_text()) if amd and blas()[2] is not None else None


def program(source: str) -> ctypes.CDLL:
    """The library of a program, with what it calls."""
    library = build(source)
    if "product(" in source and (ours := products()):
        library.set_products(*(ctypes.cast(f, ctypes.c_void_p) for f in (ours.smultiply, ours.dmultiply)))
    return library


def build(source: str, load: Callable[[Path], ctypes.CDLL] | None = None) -> ctypes.CDLL:
    """The shared library of a C source, compiled now or stored earlier.

    Its name is a hash of the source and the files that it includes, with compiler, flags and processor. A file that differs from what this user's compiler
    made, according to the keyed hash stored with it, is never loaded but made again: a planted file would be executed, and a truncated one would crash the process.
    A folder that can't be written, or that others can write to, is not used.

    Args:
        load: What makes one of its file; that of a program if None.

    Raises:
        CompilerMissing: There is no compiler, or it fails.
    """
    try:
        return _kept_or_made(source, load or _load, *private_folder())
    except OSError:
        return _kept_or_made(source, load or _load, *temporary_folder())


def _kept_or_made(source: str, load: Callable[[Path], ctypes.CDLL], folder: Path, key: bytes) -> ctypes.CDLL:
    parts = (source, *(header.read_text() for header in INCLUDED), compiler_version(), " ".join(FLAGS), processor())
    kept = folder / f"{keyed(key, *map(str.encode, parts))[:32]}.so"
    if _is_whole(kept, key):
        try:
            for file in (kept, _beside(kept)):
                os.utime(file)  # so that they are not the oldest
            return load(kept)
        except (OSError, AttributeError):
            pass
    library = load(_compile(source, kept, key))
    drop_oldest(folder)
    return library


def _compile(source: str, target: Path, key: bytes) -> Path:
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        text, made = Path(temporary) / "program.c", Path(temporary) / "program.so"
        text.write_text(source)
        command = [compiler(), *FLAGS, f"-I{RUNTIME.parent}", str(text), "-o", str(made), "-lm"]
        if vector_math():
            command.append("-lmvec")
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise CompilerMissing(f"{compiler()} fails: {done.stderr.strip().splitlines()[0] if done.stderr else '?'}")
        made.chmod(0o700)  # whatever the umask
        hashed = Path(temporary) / "hash"
        hashed.write_text(_hash(made, target, key))
        hashed.chmod(0o600)
        for file in (made, hashed):  # on the disk before they have their names
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        # The hash last: where another process comes between, they do not agree, and it is made once more.
        os.replace(made, target)
        os.replace(hashed, _beside(target))
    return target


def _beside(library: Path) -> Path:
    return library.with_suffix(".hmac")


def _hash(library: Path, target: Path, key: bytes) -> str:
    """Of a library by its name: another of ours, under this name, is another program."""
    return keyed(key, target.name.encode(), content(library))


def _is_whole(library: Path, key: bytes) -> bool:
    """Whether a kept library is there, as it was made."""
    try:
        return hmac.compare_digest(content(_beside(library)), _hash(library, library, key).encode())
    except OSError:
        return False


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.run.restype = library.map.restype = ctypes.c_long
    floats, doubles, blas_threads = blas()
    library.set_blas(
        *((ctypes.c_void_p * len(each))(*each) for each in (floats, doubles)), ctypes.c_void_p(blas_threads)
    )
    library.set_team(*map(ctypes.c_void_p, threads()))
    # Closed when its last function is gone, as a process may make thousands of libraries; but not at exit, when threads may still be running in it.
    weakref.finalize(library, _close, library._handle).atexit = False
    return library


def _close(handle: int) -> None:
    if (close := getattr(ctypes.CDLL(None), "dlclose", None)) is not None:
        close(ctypes.c_void_p(handle))
