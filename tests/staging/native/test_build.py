"""Kept libraries: what is not as it was made is made anew, and never loaded."""

from __future__ import annotations

import pytest

from vbayes.staging.native import build as building
from vbayes.staging.native.build import build
from vbayes.staging.native.private_folder import private_folder

SOURCE = """
#include <math.h>
#include "runtime.h"
int answer(void) { return 42; }
"""
DAMAGES = {f"cut at {part}/11": lambda whole, part=part: whole[: len(whole) * part // 11] for part in range(11)}
DAMAGES |= {
    "a block of zeros": lambda whole: whole[:4096] + bytes(4096) + whole[8192:],
    "the head of zeros": lambda whole: bytes(64) + whole[64:],
    "one bit": lambda whole: whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
    "more at its end": lambda whole: whole + b"x",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A library as the compiler makes it."""
    building.threads()  # another, which a process makes once, in whatever folder
    return building._compile(SOURCE, tmp_path_factory.mktemp("made") / "library.so", b"key").read_bytes()


@pytest.fixture
def made(whole, monkeypatch, tmp_path):
    """The files that were made: what a compiler takes its time for is copied here."""
    made = []

    def copied(source, target, key):
        target.unlink(missing_ok=True)
        target.write_bytes(whole)
        building._beside(target).write_text(building._hash(target, target, key))
        made.append(target)
        return target

    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path))
    monkeypatch.setattr(building, "_compile", copied)
    assert build(SOURCE).answer() == 42
    return made


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_is_never_loaded(whole, made, damage, monkeypatch):
    """Of eleven that were cut short five ended the process, at every run."""
    (kept,) = made
    kept.unlink()
    kept.write_bytes(DAMAGES[damage](whole))
    original, loaded = building._load, []
    monkeypatch.setattr(building, "_load", lambda path: loaded.append(path.read_bytes()) or original(path))
    assert build(SOURCE).answer() == 42
    assert loaded == [whole] and made == [kept, kept]


@pytest.mark.parametrize("hashed", [None, "", "0" * 64])
def test_a_library_without_its_hash_is_made_anew(made, hashed):
    beside = building._beside(made[0])
    beside.unlink() if hashed is None else beside.write_text(hashed)
    assert build(SOURCE).answer() == 42 and len(made) == 2


def test_a_whole_one_is_taken_as_it_is(made):
    assert build(SOURCE).answer() == 42 and len(made) == 1


def test_the_compiler_leaves_the_hash(whole, monkeypatch, tmp_path):
    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path))
    build(SOURCE)
    (kept,) = (tmp_path / "programs").glob("*.so")
    assert building._is_whole(kept, private_folder()[1]) and not building._is_whole(kept, bytes(32))
