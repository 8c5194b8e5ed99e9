"""The text of traced graphs, of which torch keeps every one for its tracebacks: here no more than the latest."""

from __future__ import annotations

import linecache

from torch.fx import graph_module

KEPT = 64  # of some 13,000 characters each: a process that makes programs for hours does not grow


def drop_old_sources() -> None:
    """Forgets all but the latest; what was made from the others runs on, and a traceback through them has no lines."""
    cache = getattr(getattr(graph_module, "_loader", None), "eval_cache", {})
    for name in list(cache)[:-KEPT]:
        del cache[name]
        linecache.cache.pop(name, None)
