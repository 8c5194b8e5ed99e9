"""Checks memory before it is allocated: a failed allocation would say neither what needed it nor how to need less."""

from __future__ import annotations

import os

from ..errors import BadInput


def available() -> int:
    """Available memory in bytes; the total memory if that is unknown."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**63


def require_memory(needed: float, what: str, *, mend: str, there: int | None = None) -> None:
    """Raises `BadInput` if not enough memory is available.

    Args:
        needed: Bytes needed at once.
        what: The argument that requests them: "draws=1000000".
        mend: How to request less.
        there: Free bytes, if the memory is not this machine's.
    """
    if needed <= 1e7:  # checking would cost more than it is worth for so little memory
        return
    if needed > (free := available() if there is None else there):
        raise BadInput.of(
            what,
            got=f"too large: it needs {gigabytes(needed)} of memory",
            wanted=f"at most the {gigabytes(free)} that are free",
            mend=mend,
        )


def gigabytes(size: float) -> str:
    """A number of bytes as text."""
    if size > 1e18:
        return "more than 1,000,000,000 GB"
    return f"{size / 1e9:,.3g} GB" if size < 1e12 else f"{size / 1e9:,.0f} GB"
