"""Over long runs: after many fits of different programs, and steps of many shapes, a process is as large as before."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.fx.graph_module

from vbayes.staging.sources import KEPT, drop_old_sources

WARM, FITS = 10, 30
GROWTH = (
    2**17
)  # bytes a fit: large programs left 2 MB each; what the allocator itself adds, where each is compiled for the first time, was seen to be 70 kB.
# Of small ones, which left 40 kB and five mappings of a library, the mappings tell.

CODE = """
import gc, os, sys, tempfile, warnings
import pyro, pyro.distributions as dist, torch
import vbayes as vb

warnings.simplefilter("ignore")

def model(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

def guide(x):
    pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

def now():
    gc.collect()
    memory = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    libraries = sum(".so" in line for line in open("/proc/self/maps"))
    kept = (os.listdir("/proc/self/fd"), os.listdir("/proc/self/task"), os.listdir(tempfile.gettempdir()))
    return [memory, libraries, *map(len, kept)]

def fits(first, count):
    for number in range(first, first + count):  # each of another shape, and so another program
        vb.fit(vb.Pair(model, guide), torch.randn(10 + number), steps=20, compile=True, progress=False)
        if number % 5 == 0:  # pairs are in circles, and memory that waits for the collector is not lost
            gc.collect()

def steps(first, count):
    for again in range(count):
        svi = vb.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO(), compile=True)
        for turn in range(4):
            for number in range(20):
                svi.step(torch.randn(10 + number))
        del svi
        pyro.clear_param_store()
        gc.collect()

{what}(0, {warm})
before = now()
{what}({warm}, {count})
print(*(b - a for a, b in zip(before, now())))
"""


def grown(tmp_path: Path, what: str, warm: int, count: int) -> list[int]:
    """By how much a process of its own has grown in memory, mappings of libraries, open files, threads and temporary files."""
    (tmp_path / "temporary").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary"), "OMP_NUM_THREADS": "1"}
    code = CODE.replace("{what}", what).replace("{warm}", str(warm)).replace("{count}", str(count))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        timeout=300,
    )
    assert not done.returncode, done.stderr
    return [int(number) for number in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.on_cpu
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_a_process_is_as_large_after_many_fits_as_before(tmp_path):
    memory, libraries, files, threads, temporary = grown(tmp_path, "fits", WARM, FITS)
    assert memory < FITS * GROWTH
    assert libraries <= 0 and files <= 0 and threads <= 0 and temporary <= 0


@pytest.mark.slow
@pytest.mark.on_cpu
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_an_svi_of_twenty_shapes_leaves_nothing_when_it_goes(tmp_path):
    """80 steps over 20 shapes, again and again: the programs are freed with each. The allocator has what it needs after two or three of them."""
    memory, libraries, files, threads, temporary = grown(tmp_path, "steps", 3, 2)
    assert memory < 2 * 20 * GROWTH
    assert libraries <= 5 * 2 and files <= 0 and threads <= 0 and temporary <= 0


def test_a_librarys_code_is_unmapped_with_the_last_that_can_call_it():
    from vbayes.staging.machine_code import compiled_or_why
    from vbayes.staging.native.build import threads

    threads()  # whose library stays

    def libraries() -> set[str]:
        gc.collect()
        return {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(".so")}

    before = libraries()
    native, why = compiled_or_why(lambda x: (x.sin() * 3.25,), [torch.ones(7)])
    assert native is not None, why
    during = libraries() - before
    assert any(Path(name).parent.name != "lib" for name in during)
    assert native(torch.ones(7))[0].allclose(torch.ones(7).sin() * 3.25)
    del native
    assert not {name for name in libraries() - before if name in during and "vbayes" in name}


def test_the_texts_of_old_graphs_are_forgotten():
    cache = torch.fx.graph_module._loader.eval_cache
    names = [torch.fx.graph_module._loader.cache("pass", {}) for _ in range(KEPT + 10)]
    drop_old_sources()
    assert len(cache) == KEPT and names[-1] in cache and names[0] not in cache
