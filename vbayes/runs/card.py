"""Assigns GPUs to the workers of a sweep."""

from __future__ import annotations

import multiprocessing
import re
from contextlib import AbstractContextManager, nullcontext

import torch


def own_card() -> AbstractContextManager[object]:
    """Context in which "cuda" and "auto" mean the GPU of this worker: joblib numbers its processes, which are distributed over the GPUs.

    It does nothing outside joblib's workers, or with fewer than two GPUs; Dask and Ray assign GPUs to their workers themselves.
    """
    worker = re.fullmatch(r"LokyProcess-(\d+)", multiprocessing.current_process().name)
    cards = torch.cuda.device_count() if worker else 0
    return torch.cuda.device((int(worker[1]) - 1) % cards) if worker and cards > 1 else nullcontext()
