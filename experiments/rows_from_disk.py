"""How does a fit that reads its rows from disk while it trains compare with the same fit of an array in memory?"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import vbayes as vb

KINDS = ("memory", "memmap", "zarr", "parquet")
BLOCK = 100_000  # rows written at a time


def place_of(kind: str, rows: int, columns: int, folder: Path) -> Path:
    return folder / f"{kind}_{rows}_{columns}{'.parquet' * (kind == 'parquet')}"


def write(kind: str, rows: int, columns: int, folder: Path) -> None:
    """Writes the same rows for each kind of storage, unless they exist already."""
    place, rng = place_of(kind, rows, columns, folder), np.random.default_rng(0)
    if place.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    w = rng.normal(size=columns).astype("f4") / columns**0.5
    x, y, file = None, None, None
    if kind == "memmap":
        place.mkdir()
        x = np.lib.format.open_memmap(place / "x.npy", "w+", "f4", (rows, columns))
        y = np.lib.format.open_memmap(place / "y.npy", "w+", "f4", (rows,))
    elif kind == "zarr":
        import zarr

        group = zarr.open_group(place, mode="w")
        x = group.create_array("x", shape=(rows, columns), dtype="f4", chunks=(10_000, columns), compressors=None)
        y = group.create_array("y", shape=(rows,), dtype="f4", chunks=(rows,), compressors=None)
        found = np.empty(rows, "f4")
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        some = rng.standard_normal((count, columns), dtype="f4")
        answers = (rng.random(count) < 1 / (1 + np.exp(-some @ w))).astype("f4")
        if kind == "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            table = pa.table({**{f"x{i}": some[:, i] for i in range(columns)}, "y": answers})
            file = file or pq.ParquetWriter(place, table.schema, compression="none", use_dictionary=False)
            file.write_table(table)
        else:
            x[start : start + count] = some
            if kind == "zarr":
                found[start : start + count] = answers
            else:
                y[start : start + count] = answers
    if kind == "zarr":
        y[:] = found
    if file:
        file.close()


def read(kind: str, rows: int, columns: int, folder: Path):
    place = place_of("memmap" if kind == "memory" else kind, rows, columns, folder)
    if kind == "parquet":
        return vb.data.read(place, columns={"x": [f"x{i}" for i in range(columns)], "y": "y"})
    if kind == "zarr":
        import zarr

        return dict(zarr.open_group(place, mode="r").arrays())
    mode = "r" if kind == "memmap" else None
    return {name: np.load(place / f"{name}.npy", mmap_mode=mode) for name in ("x", "y")}


def alone(kind: str, rows: int, columns: int, folder: Path, batch_size: int, epochs: int) -> dict[str, Any]:
    """Time and memory of a fit from one kind of storage, in this process."""
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer.autoguide import AutoNormal

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(columns), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    began, began_to_work = time.perf_counter(), time.process_time()
    pair = vb.Pair(model, AutoNormal(model, init_scale=0.01))
    fit = vb.fit(
        pair,
        read(kind, rows, columns, folder),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=1e-3,
        seed=0,
        progress=False,
    )
    took, worked = time.perf_counter() - began, time.process_time() - began_to_work
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "kind": kind, "rows": rows, "seconds": took, "processor seconds": worked, "seconds of steps": fit.rows[-1][4], "peak MB": peak / 1024,
        "elbo per datum": float(np.mean(fit.rows.elbo_per_datum[-200:])),
    }  # fmt: skip


def measure(
    *, kinds: tuple[str, ...], rows: int, columns: int, batch_size: int, epochs: int, folder: str
) -> pd.DataFrame:
    """Fits from each kind of storage in a process of its own, so that its peak memory can be measured."""
    table = []
    for kind in kinds:
        write("memmap" if kind == "memory" else kind, rows, columns, Path(folder))
        asked = json.dumps([kind, rows, columns, folder, batch_size, epochs])
        ran = subprocess.run([sys.executable, __file__, asked], capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError(f"{kind}: {ran.stderr.splitlines()[-1]}")
        table.append(json.loads(ran.stdout.splitlines()[-1]))
    return pd.DataFrame(table)


def figure(table: pd.DataFrame) -> plt.Figure:
    """Seconds of the steps, and peak memory."""
    drawn, axes = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
    for ax, column in zip(axes, ("seconds of steps", "peak MB"), strict=True):
        ax.barh(table.kind, table[column], color="C0")
        ax.set_xlabel(column)
        ax.spines[["top", "right"]].set_visible(False)
    return drawn


def verdict(table: pd.DataFrame) -> str:
    """Each kind of storage compared with the array in memory."""
    own = table.set_index("kind")
    if "memory" not in own.index:
        return "Can't tell (nothing in memory was measured): " + "; ".join(f"{kind}: {row['seconds']:.1f} s, {row['peak MB']:.0f} MB in all" for kind, row in own.iterrows())  # fmt: skip
    base, whole = own.loc["memory", ["seconds of steps", "seconds"]]
    return "; ".join(
        f"{kind}: the fit {row['seconds'] / whole:.2f} and its steps {row['seconds of steps'] / base:.2f} times as long as from memory, {row['peak MB']:.0f} MB in all" for kind, row in own.iterrows() if kind != "memory"
    )  # fmt: skip


experiment = vb.Experiment(
    question="How does a fit that reads its rows from disk while it trains compare with one in memory?",
    claim="It takes at most 1.5 times as long, in less than 1 GB.",
    measure=measure,
    full={
        "kinds": ("memory", "memmap"),
        "rows": 10_000_000,
        "columns": 100,
        "batch_size": 1000,
        "epochs": 2,
        "folder": "runs/rows_on_disk",
    },
    quick={"rows": 1_000_000},
    figure=figure,
    verdict=verdict,
    notes="Logistic regression. Files are written to `folder` once and kept: 4 GB for ten million rows. Other kinds: zarr, parquet.",
    slow="it writes gigabytes",
)


if __name__ == "__main__":
    kind, rows, columns, folder, batch_size, epochs = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    print(json.dumps(alone(kind, rows, columns, Path(folder), batch_size, epochs)))
