"""One import line makes an estimator known: its name is that of its file, its place that of the line."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

import vbayes as vb
from vbayes import estimators
from vbayes.cli.catalogue import estimators_in_markdown
from vbayes.estimators import name_of, registry, resolve

FOLDER = Path(estimators.__file__).parent


def test_every_file_with_an_estimator_is_known_in_the_order_of_the_lines():
    lines = re.findall(r"^from \.(\w+) import (\w+) as \2$", (FOLDER / "__init__.py").read_text("utf-8"), re.M)
    wanted = {name: kind for name, kind in lines if name not in ("base", "followed", "registry")}
    assert {name: kind.__name__ for name, kind in vb.ESTIMATORS.items()} == wanted
    assert list(vb.ESTIMATORS) == list(wanted)
    grounds = {
        "__init__",
        "base",
        "binary_pairs",
        "check_value",
        "contract",
        "estimate",
        "followed",
        "learned",
        "remembering",
        "objective",
        "registry",
        "suits",
        "weights",
    }
    assert {file.stem for file in FOLDER.glob("*.py")} - grounds == set(vb.ESTIMATORS)


def test_names_and_classes_find_each_other():
    for name, kind in vb.ESTIMATORS.items():
        assert isinstance(resolve(name), kind) and name_of(resolve(kind)) == name


def test_settings_stand_behind_a_name_as_tables_write_them():
    for made in (
        vb.IWAE(64),
        vb.Beta(beta=2.0),
        vb.STL(3, noise="antithetic"),
        vb.TVO(betas=(0.0, 0.5)),
        vb.CUBO(order=3.0),
    ):
        assert resolve(name_of(made)) == made
    assert resolve("iwae( noise = sobol, num_particles = 8 )") == vb.IWAE(8, noise="sobol")
    wrong = {
        "iwae(k=3)": "no setting 'k'.*\nIts settings: num_particles=5, noise='iid'",
        "iwae(retain_graph=True)": "no setting",
        "iwae(0)": "below 1",
        "iwae(4": "not understood.*num_particles=5",
        "iwae(4)(5)": "not understood",
        "iwae(4, num_particles=5)": "not understood",
        "iwae(__import__('os').getpid())": "not understood",
        "iwea(4)": "no estimator named 'iwea'. Did you mean 'iwae'",
    }
    for text, words in wrong.items():
        with pytest.raises(vb.errors.BadInput, match=words):
            resolve(text)


def test_a_new_line_is_all_that_it_takes(monkeypatch):
    """Of one more import the registry has one more name, its file's, and the table of the reference one more row."""
    module = types.ModuleType("vbayes.estimators.sticky_iwae")
    source = (FOLDER / "stl.py").read_text("utf-8").replace("class STL(", "class StickyIWAE(")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.__package__ = "vbayes.estimators"
    exec(compile(source, "sticky_iwae.py", "exec"), vars(module))
    monkeypatch.setattr(registry, "ESTIMATORS", before := dict(vb.ESTIMATORS))
    registry.register([*vars(estimators).values(), module.StickyIWAE])
    assert before is registry.ESTIMATORS and list(before) == [*vb.ESTIMATORS, "sticky_iwae"]
    assert name_of(resolve("sticky_iwae")) == "sticky_iwae"
    monkeypatch.setitem(vb.ESTIMATORS, "sticky_iwae", module.StickyIWAE)
    assert "| `StickyIWAE` | The pathwise gradient without its score term" in estimators_in_markdown()
