"""The surface: every public name documented, importing it costs nothing."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from vbayes.cli.catalogue import estimators_in_markdown

ROOT = Path(__file__).parents[1]
NAMES = [name for name in vb.__all__ if not inspect.ismodule(getattr(vb, name))]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring(name):
    thing = getattr(vb, name)
    if callable(thing):
        assert thing.__doc__ and thing.__doc__[0] not in "\n "
        if inspect.isfunction(thing) and len(inspect.signature(thing).parameters) > 1:
            assert "Args:" in thing.__doc__


def test_every_public_name_is_in_the_reference():
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    assert len(NAMES) > 20
    missing = [name for name in NAMES if not re.search(rf"`(vb\.)?{name}\b", pages)]
    assert not missing


def test_importing_is_free():
    code = "import sys, vbayes; print({'torch', 'pyro', 'matplotlib', 'pandas', 'sklearn', 'arviz'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.slow
def test_the_readmes_examples_run():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    own_model, own_pair, estimator, laboratory, learning, svi = re.findall(r"```python\n(.*?)```", readme, re.S)
    scope: dict = {}
    exec(compile(own_model, "README.md", "exec"), scope)
    assert "Converged" in scope["fit"].verdict() and scope["found"].draws["t"].shape == (1000, 8)
    quick = own_pair.replace('"stl"], steps=2000', '"stl"], steps=200').replace("arviz(fit)", "arviz(fit, draws=50)")
    exec(compile(quick, "README.md", "exec"), scope)
    assert scope["fit"].convergence.converged and "noise per second" in scope["result"].verdict()

    scope = {}
    exec(compile(estimator, "README.md", "exec"), scope)
    assert "Biased here: StickyIWAE (" in scope["result"].verdict()

    scope = {"vb": vb}
    quick = laboratory.replace("digits()", "digits().rows(slice(0, 180))").replace("batch_size=100", "batch_size=10")
    exec(compile(quick.replace("epochs=30", "epochs=1, replicas=100"), "README.md", "exec"), scope)
    assert len(scope["result"].points) == 7 and scope["result"].fit.steps == 18

    scope = {"vb": vb}
    quick = (
        learning.replace("epochs=30", "epochs=1")
        .replace("digits()", "digits().rows(slice(0, 360))")
        .replace("num_particles=100", "num_particles=3")
        .replace("draws=200", "draws=3")
    )
    exec(compile(quick, "README.md", "exec"), scope)
    assert scope["found"].draws["z"].shape == (3, 360, 5)
    assert scope["filled"].x.shape == (100, 64) and scope["evidence"].direction == "lower"

    x = torch.randn(20, generator=torch.Generator().manual_seed(0))

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0).expand([20]).to_event(1), obs=x)

    scope = {
        "pyro": pyro,
        "Trace_ELBO": pyro.infer.Trace_ELBO,
        "model": model,
        "guide": AutoNormal(model),
        "x": x,
        "batches": [x] * 3,
    }
    with vb.seeded(0):
        exec(compile(svi, "README.md", "exec"), scope)
    pyro.clear_param_store()  # SVI trains there, as Pyro's does
    assert len(scope["losses"]) == 10_000


def test_the_table_of_estimators_is_what_they_claim():
    assert estimators_in_markdown() in (ROOT / "docs" / "reference" / "estimators.md").read_text(encoding="utf-8")
