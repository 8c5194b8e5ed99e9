"""What a fit costs whose rows are read from disk while it trains, beside the same fit of an array in memory.

Logistic regression on float32 columns, by minibatches. Each kind runs in a process of its own, for its peak of memory:

    python experiments/rows_from_disk.py --rows 10000000 --columns 100 --folder /somewhere/with/room
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

KINDS = ("memory", "memmap", "zarr", "parquet")
BLOCK = 100_000  # rows that are written at a time


def place_of(kind: str, rows: int, columns: int, folder: Path) -> Path:
    return folder / f"{kind}_{rows}_{columns}{'.parquet' * (kind == 'parquet')}"


def write(kind: str, rows: int, columns: int, folder: Path) -> None:
    """The same rows for each kind, unless they are there."""
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
    import vbayes as vb

    place = place_of("memmap" if kind == "memory" else kind, rows, columns, folder)
    if kind == "parquet":
        return vb.data.read(place, columns={"x": [f"x{i}" for i in range(columns)], "y": "y"})
    if kind == "zarr":
        import zarr

        return dict(zarr.open_group(place, mode="r").arrays())
    mode = "r" if kind == "memmap" else None
    return {name: np.load(place / f"{name}.npy", mmap_mode=mode) for name in ("x", "y")}


def measure(kind: str, rows: int, columns: int, folder: Path, batch_size: int, epochs: int) -> dict[str, float]:
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer.autoguide import AutoNormal

    import vbayes as vb

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(columns), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    began, began_to_work, before = (
        time.perf_counter(),
        time.process_time(),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )
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
        "kind": kind, "seconds": round(took, 2), "of the processor": round(worked, 2), "of steps": round(fit.rows[-1][4], 2), "peak MB": peak // 1024, "before MB": before // 1024,
        "elbo per datum": round(float(np.mean(fit.rows.elbo_per_datum[-200:])), 4), "engine": fit.engine,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("runs/rows_from_disk"))
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--alone", action="store_true", help="in this process")
    asked = parser.parse_args()
    if asked.alone:
        warnings.simplefilter("ignore")
        how = asked.rows, asked.columns, asked.folder
        print(json.dumps(measure(asked.kinds[0], *how, asked.batch_size, asked.epochs)))
        return
    for kind in asked.kinds:
        write("memmap" if kind == "memory" else kind, asked.rows, asked.columns, asked.folder)
        again = [
            sys.executable,
            __file__,
            "--alone",
            "--kinds",
            kind,
            "--rows",
            str(asked.rows),
            "--columns",
            str(asked.columns),
        ]
        again += ["--folder", str(asked.folder), "--batch-size", str(asked.batch_size), "--epochs", str(asked.epochs)]
        print(subprocess.run(again, capture_output=True, text=True, check=True).stdout, end="", flush=True)


if __name__ == "__main__":
    main()
