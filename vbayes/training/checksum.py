"""The checksum of a checkpoint, over every byte of its file: numbers, names, shapes and descriptions.

It is stored in the file's header, and counted as zeros there. A further checksum for each tensor shows which of them is damaged. Checksums detect
damage, not forgery: whoever can write to the file can also write a checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

VERSION = "1"  # format of the file; files without version and checksum are older
LONGEST = 10**8  # maximum size of a header in bytes, as in safetensors
DISAGREES = "does not agree with its checksum"
_KEY, _ZEROS = b'"sha256":"', b"0" * 64  # inside a string of the header the quotation marks would be escaped


def write(tensors: Mapping[str, Tensor], path: Path, described: str) -> None:
    """Writes a safetensors file with version and checksums, synchronously; replaces an existing file or link.

    Args:
        tensors: Contiguous tensors on the CPU.
        path: The file.
        described: The description of the tensors.

    Raises:
        OSError, SafetensorError: The file can't be written.
    """
    path.unlink(missing_ok=True)
    metadata = {"vbayes": described, "version": VERSION, "sha256": _ZEROS.decode()}
    metadata["tensors"] = json.dumps({name: _of_tensor(tensor) for name, tensor in tensors.items()})
    save_file(dict(tensors), path, metadata=metadata)
    with path.open("rb+") as file:
        header = _header(file)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(8 + header.index(_KEY + _ZEROS) + len(_KEY))
        file.write(digest.encode())
        file.flush()
        os.fsync(file.fileno())


def damage(path: Path) -> str:
    """Describes which part of a file is damaged; empty if none is, or if that can't be determined, as there is neither version nor checksum.

    Raises:
        OSError: The file can't be read.
        ValueError: It is not a safetensors file, or is truncated.
    """
    with path.open("rb") as file:
        header = _header(file)
        metadata = json.loads(header).get("__metadata__", {})
        if "sha256" not in metadata and "version" not in metadata:
            return ""
        found = metadata.get("sha256", "")
        if "version" not in metadata or header.count(entry := _KEY + found.encode() + b'"') != 1:
            return f"its header {DISAGREES}"
        digest = hashlib.sha256(len(header).to_bytes(8, "little"))
        digest.update(header.replace(entry, _KEY + _ZEROS + b'"'))
        while part := file.read(2**20):
            digest.update(part)
    return "" if digest.hexdigest() == found else _what(path, metadata)


def _header(file: Any) -> bytes:
    """The JSON header of a file; leaves the file position at its end."""
    length = int.from_bytes(file.read(8), "little")
    if length > LONGEST:
        raise ValueError("it has no header of a safetensors file")
    header: bytes = file.read(length)
    if len(header) < length:
        raise ValueError("it is cut short")
    return header


def _what(path: Path, metadata: Mapping[str, str]) -> str:
    """The first damaged tensor, or the rest of the file."""
    try:
        digests = json.loads(metadata["tensors"])
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
            for name in file.keys():
                if digests[name] != _of_tensor(file.get_tensor(name)):
                    return f"its tensor {name!r} {DISAGREES}"
    except SafetensorError as error:  # safetensors checks where the file must end
        return f"it can't be read: {error}"
    except (LookupError, TypeError, ValueError, RecursionError):
        pass
    return f"its header {DISAGREES}"


def _of_tensor(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.reshape(-1).view(torch.uint8).cpu().numpy().data).hexdigest()
