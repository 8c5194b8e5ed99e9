"""Building: C to machine code, by the compiler that is there, and the folder where its results are kept."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs
import torch


class CompilerMissing(Exception):
    """No C compiler, or one that fails on our code."""


FLAGS = ("-O3", "-fwrapv", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffp-contract=fast",
         "-fopenmp", "-fPIC", "-shared", "-std=gnu11", "-w")  # fmt: skip
RUNTIME = Path(__file__).with_name("runtime.h")  # what every source includes
VECTORISED = ("exp", "log", "log1p", "expm1", "tanh", "sin", "cos", "pow", "erf")


def cache_folder() -> Path:
    """`$VBAYES_CACHE`, or the user's cache."""
    return Path(os.environ.get("VBAYES_CACHE") or platformdirs.user_cache_dir("vbayes")) / "programs"


@functools.cache
def compiler() -> str:
    """The C compiler's path.

    Raises:
        CompilerMissing: None is there.
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
    """Declarations that let loops use the C library's functions of whole vectors, where it has them (glibc on x86)."""
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
def blas() -> tuple[int, int]:
    """Addresses of sgemm and dgemm: those that torch itself calls, else SciPy's."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        torch_cpu = ctypes.CDLL(str(library))
        found = [ctypes.cast(getattr(torch_cpu, name), ctypes.c_void_p).value for name in ("sgemm_", "dgemm_")]
        return found[0] or 0, found[1] or 0
    except (OSError, AttributeError):
        from scipy.linalg import cython_blas

        return _capsule(cython_blas, "sgemm"), _capsule(cython_blas, "dgemm")


def _capsule(module: object, name: str) -> int:
    capsule = module.__pyx_capi__[name]  # type: ignore[attr-defined]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return int(api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule)))


@functools.cache
def processor() -> str:
    """What `-march=native` means here: code for another processor must not be taken from a shared cache."""
    done = subprocess.run([compiler(), "-march=native", "-E", "-dM", "-x", "c", "/dev/null"], capture_output=True)
    return hashlib.sha256(done.stdout).hexdigest()


def build(source: str) -> ctypes.CDLL:
    """The shared library of a C source, compiled now or kept from an earlier time.

    The key is the source itself and what it includes, with compiler, flags and processor. A file that is not whole, by the hash beside it, is
    made anew and never loaded: to load one that was cut short ends the process. A folder that can't be written is done without.

    Raises:
        CompilerMissing: There is no compiler, or it fails.
    """
    parts = (source, RUNTIME.read_text(), compiler_version(), " ".join(FLAGS), processor())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    folder = cache_folder()
    kept = folder / f"{key}.so"
    if _is_whole(kept):
        try:
            return _load(kept)
        except (OSError, AttributeError):
            pass
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _load(_compile(source, folder, kept))
    except OSError:
        # Loaded code stays when its file is gone.
        with tempfile.TemporaryDirectory(prefix="vbayes-") as temporary:
            return _load(_compile(source, Path(temporary), Path(temporary) / f"{key}.so"))


def _compile(source: str, folder: Path, target: Path) -> Path:
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        text, made = Path(temporary) / "program.c", Path(temporary) / "program.so"
        text.write_text(source)
        command = [compiler(), *FLAGS, f"-I{RUNTIME.parent}", str(text), "-o", str(made), "-lm"]
        if vector_math():
            command.append("-lmvec")
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise CompilerMissing(f"{compiler()} fails: {done.stderr.strip().splitlines()[0] if done.stderr else '?'}")
        # The hash last: where another process comes between, they do not agree, and it is made once more.
        hashed = Path(temporary) / "hash"
        hashed.write_text(_hash(made))
        os.replace(made, target)
        os.replace(hashed, _beside(target))
    return target


def _beside(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _hash(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()


def _is_whole(library: Path) -> bool:
    """Whether a kept library is there, as it was made."""
    try:
        return _beside(library).read_text() == _hash(library)
    except OSError:
        return False


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.run.restype = library.map.restype = ctypes.c_long
    library.set_blas(*(ctypes.c_void_p(address) for address in blas()))
    return library
