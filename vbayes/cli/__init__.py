"""The command line."""

import os

# Of GCC's OpenMP: a thread that waits for another one gives its processor away after some twenty microseconds, not after milliseconds. Read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from .app import main as main  # noqa: E402
