"""Limits the source texts of traced graphs: torch keeps all of them for its tracebacks, here only the latest are kept."""

from __future__ import annotations

import linecache

from torch.fx import graph_module

KEPT = 64  # about 13,000 characters each, so that a process that makes programs for hours does not grow


def drop_old_sources() -> None:
    """Deletes all but the latest texts; the other graphs still run, but tracebacks through them show no lines."""
    cache = getattr(getattr(graph_module, "_loader", None), "eval_cache", {})
    for name in list(cache)[:-KEPT]:
        del cache[name]
        linecache.cache.pop(name, None)
