"""Which of several cards a worker of a sweep measures on."""

from __future__ import annotations

import multiprocessing
import re
from contextlib import AbstractContextManager, nullcontext

import torch


def own_card() -> AbstractContextManager[object]:
    """Inside, "cuda" and "auto" are the card of this worker: joblib counts its processes, and they have the cards in turn.

    In a process that is no worker of joblib's, and where there is one card or none, nothing is done: those of Dask and Ray are shown a card of their own by these.
    """
    worker = re.fullmatch(r"LokyProcess-(\d+)", multiprocessing.current_process().name)
    cards = torch.cuda.device_count() if worker else 0
    return torch.cuda.device((int(worker[1]) - 1) % cards) if worker and cards > 1 else nullcontext()
