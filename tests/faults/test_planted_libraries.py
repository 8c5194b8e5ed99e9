"""Libraries that somebody has put where machine code is kept: loading one runs its constructor, so none is loaded."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
import warnings

import pytest

from vbayes.staging.native import build as building
from vbayes.staging.native import private_folder
from vbayes.staging.native.build import build

SOURCE = """
#include <math.h>
#include "runtime.h"
int answer(void) { return 42; }
"""
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can hand a file to another")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of machine code, and a home with its key, both new."""
    building.threads()  # a library that a process makes once, in whatever folder
    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    private_folder._refused.cache_clear()
    return tmp_path / "cache" / "programs"


@pytest.fixture
def ran(tmp_path):
    """A file that the planted library makes when it is loaded."""
    return tmp_path / "it ran"


@pytest.fixture
def planted(tmp_path, ran):
    """The library."""
    source, library = tmp_path / "planted.c", tmp_path / "planted.so"
    source.write_text(
        f'#include <stdio.h>\n__attribute__((constructor)) static void go(void) {{ fclose(fopen("{ran}", "w")); }}'
    )
    subprocess.run([building.compiler(), "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    return library.read_bytes()


def predictable():
    """The name that a program had, which anybody could tell."""
    parts = (SOURCE, *(header.read_text() for header in building.INCLUDED), building.compiler_version(), " ".join(building.FLAGS), building.processor())  # fmt: skip
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def made(folder):
    return sorted(file for file in folder.glob("*.so"))


def test_one_under_the_name_that_anybody_can_tell(cache, planted, ran):
    cache.mkdir(parents=True)
    (cache / f"{predictable()}.so").write_bytes(planted)
    (cache / f"{predictable()}.sha256").write_text(hashlib.sha256(planted).hexdigest())
    assert build(SOURCE).answer() == 42 and not ran.exists()


@pytest.mark.parametrize("how", ["its own hash", "the hash of ours", "another of ours", "a link", "no hash"])
def test_one_under_the_name_that_is_looked_for(cache, planted, ran, how):
    """It is made anew, in place of the planted one."""
    build(SOURCE)
    (kept,) = made(cache)
    whole, beside = kept.read_bytes(), building._beside(kept)
    if how == "another of ours":  # whole, and with a hash that is right for it
        build(SOURCE.replace("42", "43"))
        (other,) = set(made(cache)) - {kept}
        shutil.copy(other, kept.with_suffix(".new")), shutil.copy(building._beside(other), beside)
        os.replace(kept.with_suffix(".new"), kept)
    else:
        kept.unlink()  # it is loaded: what is written into it would change this process
        if how == "a link":
            (cache.parent / "elsewhere.so").write_bytes(planted)
            kept.symlink_to(cache.parent / "elsewhere.so")
        else:
            kept.write_bytes(planted)
    if how == "its own hash":
        beside.write_text(hashlib.sha256(planted).hexdigest())
    if how == "no hash":
        beside.unlink()
    assert build(SOURCE).answer() == 42 and not ran.exists()
    assert not kept.is_symlink() and len(kept.read_bytes()) == len(whole)


def make_others(cache, how):
    if how == "the folder is open to all":
        cache.chmod(0o777)
    elif how == "the cache is open to all":
        cache.parent.chmod(0o777)
    elif how == "open to its group":
        cache.chmod(0o770)
    elif how == "the folder is another's":
        os.chown(cache, 12345, 12345)
    elif how == "the cache is another's":
        os.chown(cache.parent, 12345, 12345)
    elif how == "a link":
        cache.rename(cache.with_name("elsewhere"))
        cache.symlink_to(cache.with_name("elsewhere"))


OTHERS = ["the folder is open to all", "the cache is open to all", "open to its group", "a link",
          *(pytest.param(f"the {what} is another's", marks=needs_root) for what in ("folder", "cache"))]  # fmt: skip


@pytest.mark.parametrize("how", OTHERS)
def test_a_folder_of_others(cache, planted, ran, how):
    """One warning; nothing in the folder is loaded, and nothing is put there."""
    build(SOURCE)
    (kept,) = made(cache)
    kept.unlink()
    kept.write_bytes(planted)
    make_others(cache, how)
    before = sorted(cache.iterdir())
    with pytest.warns(UserWarning, match="Compiled code is not stored in (.|\n)*chmod 700") as caught:
        assert build(SOURCE).answer() == 42
        assert build(SOURCE.replace("42", "43")).answer() == 43
    assert len(caught) == 1 and not ran.exists() and sorted(cache.iterdir()) == before
    folder, _ = private_folder.temporary_folder()
    assert folder.stat().st_mode & 0o777 == 0o700 and made(folder)


@pytest.mark.parametrize("how", ["open to all", pytest.param("another's", marks=needs_root)])
def test_a_file_of_others(cache, how):
    build(SOURCE)
    (kept,) = made(cache)
    os.chown(kept, 12345, 12345) if how == "another's" else kept.chmod(0o777)
    number = kept.stat().st_ino
    assert build(SOURCE).answer() == 42 and kept.stat().st_ino != number


def test_folders_and_files_are_ours_alone(cache):
    old = os.umask(0)
    try:
        build(SOURCE)
    finally:
        os.umask(old)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (cache, cache.parent)}
    assert set(modes.values()) == {0o700}
    assert not any(file.stat().st_mode & 0o022 for file in cache.iterdir())
    cache.parent.parent.chmod(0o1777)  # a cache in /tmp is as good as another
    build(SOURCE)


def test_a_cache_that_was_handed_on(cache, planted, ran, tmp_path, monkeypatch):
    """Hashes of another key, even one that lies in the cache: nothing of it is loaded."""
    build(SOURCE)
    (kept,) = made(cache)
    kept.unlink()
    kept.write_bytes(planted)
    building._beside(kept).write_text(building._hash(kept, kept, private_folder.private_folder()[1]))
    shutil.copy(tmp_path / "home" / "vbayes" / "key", cache / "key")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another home"))
    assert build(SOURCE).answer() == 42 and not ran.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "open to all", "a link"])
def test_a_damaged_key(cache, tmp_path, damage):
    """Another takes its place, and all is compiled once more."""
    build(SOURCE)
    key = tmp_path / "home" / "vbayes" / "key"
    before = key.read_bytes()
    if damage == "open to all":
        key.chmod(0o644)
    elif damage == "a link":
        key.rename(tmp_path / "key")
        key.symlink_to(tmp_path / "key")
    else:
        key.write_bytes(before[: 16 * (damage == "cut")])
    assert build(SOURCE).answer() == 42 and len(made(cache)) == 2
    assert len(key.read_bytes()) == 32 and key.read_bytes() != before and key.stat().st_mode & 0o777 == 0o600
    assert list(key.parent.iterdir()) == [key]


@pytest.mark.parametrize("says", ["~", "an error"])
def test_without_a_home(cache, tmp_path, monkeypatch, says):
    """Nothing is kept, and no folder `~` is made where one happens to be."""
    monkeypatch.chdir(tmp_path)

    def nowhere(name):
        if says == "~":
            return f"~/{name}"
        raise RuntimeError("could not determine the home directory")  # as newer versions of platformdirs

    for name in ("user_state_dir", "user_cache_dir"):
        monkeypatch.setattr(private_folder.platformdirs, name, nowhere)
    assert build(SOURCE).answer() == 42 and not made(cache)
    monkeypatch.delenv("VBAYES_CACHE")
    assert build(SOURCE).answer() == 42 and not (tmp_path / "~").exists()


def test_the_oldest_are_dropped(cache, monkeypatch):
    build(SOURCE)
    (first,) = made(cache)
    monkeypatch.setattr(private_folder, "SIZE", 5 * first.stat().st_size // 2)
    for file in (first, building._beside(first)):
        os.utime(file, (1, 1))
    build(SOURCE.replace("42", "43"))
    (second,) = set(made(cache)) - {first}
    for file in (second, building._beside(second)):
        os.utime(file, (2, 2))
    half = cache / "tmp-half-made"
    half.mkdir()
    os.utime(half, (time.time() - 2 * private_folder.STALE,) * 2)
    build(SOURCE)  # used, and so no longer the oldest
    build(SOURCE.replace("42", "44"))
    assert first in made(cache) and second not in made(cache) and len(made(cache)) == 2 and not half.exists()
    assert building._is_whole(first, private_folder.private_folder()[1]) and not building._beside(second).exists()


def test_two_processes_make_one_program(cache):
    """At the same time, with a key that neither has yet; both get what they asked for, and a third takes what they left."""
    building.compiler_version(), building.processor(), building.vector_math(), building.blas()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's, of forks beside threads
        children = []
        for _ in range(2):
            if not (child := os.fork()):
                try:
                    os._exit(build(SOURCE).answer())
                finally:
                    os._exit(1)
            children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [42, 42]
    (kept,) = made(cache)
    assert sorted(file.suffix for file in cache.iterdir()) == [".hmac", ".so"]
    assert build(SOURCE).answer() == 42 and building._is_whole(kept, private_folder.private_folder()[1])


def test_another_processor(cache, monkeypatch):
    """Has its own."""
    build(SOURCE)
    monkeypatch.setattr(building, "processor", lambda: "another")
    build(SOURCE)
    assert len(made(cache)) == 2


def test_files_are_on_the_disk_before_they_have_their_names(cache, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, original=original: done.append(name) or original(*args))
    build(SOURCE)
    assert done == ["fsync", "fsync", "fsync", "replace", "replace"]  # the key, then library and hash
