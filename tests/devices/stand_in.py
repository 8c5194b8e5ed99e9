"""A CUDA device for machines without one: tensors with real numbers that say "cuda", and refuse to be mixed with those on the CPU as the card does.

Numbers are computed on the CPU. Where each tensor claims to be is kept with its storage, so views and what autograd makes are known too: one mode
sees every operation, backward passes included, and holds it to the rules of the card; another answers `tensor.device` and its kind. Kernels are not
run, so nothing here is about speed, memory, or the card's last digits; a CUDA graph is played by running its step again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
FREE = "wherever it is needed"
aten = torch.ops.aten

# What the card lets stand on the CPU beside a tensor of its own: indices, and the source of a copy.
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._unsafe_index.Tensor}
COPYING = {aten.copy_.default, aten._to_copy.default, aten.copy.default, aten.set_.source_Tensor}
LOOKING = {aten._local_scalar_dense.default, aten.equal.default}

get = torch.Tensor.device.__get__  # type: ignore[attr-defined]


def _plain(tensor: Tensor) -> Tensor:
    """What is under the wrappers of `vmap` and `grad`."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def place(tensor: Tensor) -> str | None:
    """ "cuda", "cpu", or None for what torch made for itself, which on a card is where it is needed."""
    tensor = _plain(tensor)
    if tensor.device.type != "cpu":
        return tensor.device.type
    with torch._C.DisableTorchFunction():
        claims = getattr(tensor.untyped_storage(), "claims", "cpu")
    return None if claims == FREE else claims


def put(value: Any, where: str | None) -> Any:
    """Says of all tensors in a value where they are."""
    for tensor in tree_flatten(value)[0]:
        if isinstance(tensor, Tensor):
            tensor = _plain(tensor)
            if tensor.layout is torch.strided and not tensor.is_meta:
                tensor.untyped_storage().claims = where or FREE
    return value


class Generator(torch.Generator):
    """One that says where it draws."""

    claimed: torch.device

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls, "cpu")
        made.claimed = _indexed(torch.device(device))
        return made

    @property
    def device(self) -> torch.device:
        return self.claimed


def _indexed(device: torch.device) -> torch.device:
    return CUDA if device.type == "cuda" else device


class _Rules(TorchDispatchMode):
    """Every operation: may its tensors meet, and where is what comes out."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        wanted = kwargs.get("device")
        if wanted is not None and torch.device(wanted).type == "cuda":
            kwargs["device"] = CPU
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        where = self._where(func, args, tensors)
        out = func(*args, **kwargs)
        if wanted is not None and torch.device(wanted).type == "cuda":
            return put(out, "cuda")
        if func in LOOKING or wanted is not None and torch.device(wanted).type == "meta":
            return out
        fresh = out if not isinstance(out, Tensor) or out.untyped_storage()._cdata not in _storages(tensors) else None
        return put(out, where) if fresh is not None or where == "cuda" else out

    def _where(self, func: Any, args: Any, tensors: list[Tensor]) -> str | None:
        places = [place(t) for t in tensors]
        first = places[0] if places else None
        if func in COPYING:
            return first
        if "cuda" not in places:
            return "cpu" if "cpu" in places else None
        if "cpu" in places:
            pointwise = torch.Tag.pointwise in func.tags or func.overloadpacket in (aten.where, aten.fill_, aten.lerp)
            for tensor, where in zip(tensors, places, strict=True):
                if where != "cpu" or (pointwise and tensor.dim() == 0):
                    continue
                if func in INDEXING and first == "cuda" and tensor is not tensors[0]:
                    continue
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})"
                )
        return "cuda"


def _storages(tensors: list[Tensor]) -> set[int]:
    return {t.untyped_storage()._cdata for t in tensors}


ANSWERS = {
    get: lambda t: CUDA if place(t) == "cuda" else get(t),
    torch.Tensor.is_cuda.__get__: lambda t: place(t) == "cuda",  # type: ignore[attr-defined]
    torch.Tensor.is_cpu.__get__: lambda t: get(t).type == "cpu" and place(t) != "cuda",  # type: ignore[attr-defined]
    torch.Tensor.get_device: lambda t: 0 if place(t) == "cuda" else -1,
}
MADE = {
    torch.tensor, torch.as_tensor, torch.asarray, torch.zeros, torch.ones, torch.empty, torch.full, torch.arange, torch.linspace,
    torch.logspace, torch.eye, torch.rand, torch.randn, torch.randint, torch.randperm, torch.tril_indices, torch.triu_indices,
    torch.from_numpy, torch.scalar_tensor, torch.normal, torch.empty_strided,
}  # fmt: skip


class _Answers(TorchFunctionMode):
    """What a program asks of a tensor in Python, and what it makes there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in ANSWERS:
            return ANSWERS[func](args[0])
        name = getattr(func, "__name__", "")
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        to_numpy = (
            name in ("numpy", "__array__") or name == "__dlpack__" and kwargs.get("stream") == -1
        )  # jax names one
        if to_numpy and place(args[0]) == "cuda":
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if func in (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda):
            return self._to(func, args, kwargs)
        wanted = kwargs.get("device")
        wanted = None if wanted is None else torch.device(wanted)
        generator = kwargs.get("generator")
        if isinstance(generator, torch.Generator):
            at = wanted or (ANSWERS[get](tensors[0]) if tensors else CPU)
            if at.type != generator.device.type and at.type in ("cuda", "cpu"):
                raise RuntimeError(
                    f"Expected a '{at.type}' device type for generator but found '{generator.device.type}'"
                )
        if func in (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor) and wanted is not None:
            if wanted.type == "cuda":
                kwargs["device"] = CPU
            out = func(*args, **kwargs)
            if tensors and place(tensors[0]) != wanted.type and _same(out, tensors):
                out = out.clone()
            return put(out, wanted.type if wanted.type in ("cpu", "cuda") else None)
        out = func(*args, **kwargs)
        if func in MADE and isinstance(out, Tensor) and get(out).type == "cpu":
            if func in (torch.tensor, torch.as_tensor, torch.asarray) and args and isinstance(args[0], Tensor):
                return put(out, place(args[0]))
            if place(out) is None or wanted is not None:
                put(out, "cuda" if wanted is not None and wanted.type == "cuda" else "cpu")
        elif name in ("__deepcopy__", "new_tensor") and isinstance(out, Tensor):
            put(out, place(args[0]))
        return out

    def _to(self, func: Any, args: Any, kwargs: Any) -> Any:
        tensor, rest = args[0], list(args[1:])
        wanted = None
        if func is torch.Tensor.cpu:
            return self._moved(tensor, CPU)
        if func is torch.Tensor.cuda:
            return self._moved(tensor, CUDA)
        if "device" in kwargs:
            wanted = kwargs.pop("device")
        elif rest and isinstance(rest[0], (str, torch.device)):
            wanted = rest.pop(0)
        elif rest and isinstance(rest[0], Tensor):
            other = rest.pop(0)
            wanted, rest = ANSWERS[get](other), [other.dtype, *rest]
        rest = [each for each in rest if isinstance(each, torch.dtype)]  # not whether to wait
        wanted = None if wanted is None else torch.device(wanted)
        if wanted is not None and wanted.type == "meta":
            return func(tensor, wanted, *rest, **kwargs)
        out = func(tensor, *rest, **kwargs) if rest or kwargs else tensor
        return out if wanted is None else self._moved(out, wanted)

    def _moved(self, tensor: Tensor, wanted: torch.device) -> Tensor:
        if place(tensor) == wanted.type:
            return tensor
        if place(tensor) is None and wanted.type == "cpu":
            return put(tensor, "cpu")
        return put(tensor.clone(), wanted.type)


def _same(out: Any, tensors: list[Tensor]) -> bool:
    return isinstance(out, Tensor) and _plain(out).untyped_storage()._cdata in _storages([_plain(t) for t in tensors])


@contextlib.contextmanager
def stand_in() -> Iterator[None]:
    """Everything inside finds a CUDA device."""
    from vbayes.pair import device
    from vbayes.staging import cuda_graph

    torch._C._ensureCUDADeviceGuardSet()
    changed = {
        (device, "_LIBRARIES"): (*device._LIBRARIES, __file__),
        (torch, "Generator"): Generator,
        (torch.cuda, "_lazy_init"): lambda: None,
        (torch.cuda, "is_available"): lambda: True,
        (torch.cuda, "mem_get_info"): lambda device=None: (2**30, 2**30),
        (torch.cuda, "synchronize"): lambda device=None: None,
        (cuda_graph, "recorded"): lambda *functions, device: list(functions),  # a recorded step is run again
    }
    before = {place: getattr(*place) for place in changed}
    try:
        for (owner, name), value in changed.items():
            setattr(owner, name, value)
        with _Rules(), _Answers():
            yield
    finally:
        for (owner, name), value in before.items():
            setattr(owner, name, value)


def on_cuda(device: str) -> contextlib.AbstractContextManager[None]:
    """A card inside: the stand-in, unless there is a real one or everything stands on the stand-in already."""
    return stand_in() if device == "cpu" else contextlib.nullcontext()
