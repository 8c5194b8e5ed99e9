"""A single training run in its own process: `python -m engines.total ENGINE PROBLEM STEPS DEVICE` prints its time and peak memory as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path


def vbayes_fit(problem) -> Callable[[int], object]:
    import vbayes as vb

    options = {"batch_size": problem.batch_size, "learning_rate": problem.learning_rate, "progress": False}
    options["device"] = problem.data[0].device.type
    return lambda count: vb.fit(problem.pair(), problem.data, "trace", steps=count, compile=True, **options)


def engine(kind: str, name: str, device: str) -> Callable[[int], object]:
    from .problems import PROBLEMS

    problem = PROBLEMS[name]().on(device)
    if kind == "NumPyro loop":
        from .by_numpyro import NumPyro

        return NumPyro(name, problem).loop()
    if kind == "by hand":
        from .by_hand import by_hand

        return by_hand(name, problem, compiled=False)
    if kind == "Pyro":
        from .by_pyro import pyro_eager

        return pyro_eager(problem)
    return vbayes_fit(problem)


def peak_memory() -> float:
    """This process's peak memory in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage, this does not include the parent's peak
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    kind, name, steps, device = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    run = engine(kind, name, device)
    start = time.perf_counter()
    run(steps)
    if device != "cpu":
        import torch

        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": peak_memory()}))
