"""The pages of folders that somebody else has filled: nothing outside of the folder is read or written, and no link leads out of it."""

from __future__ import annotations

import json
import os
import re
from html import unescape
from urllib.parse import unquote, urlsplit

import pytest

import vbayes as vb
from vbayes.runs import regular_file
from vbayes.runs.index import index
from vbayes.runs.page import page

SECRET = b"root:x:0:0:root:/root:/bin/bash\n"


@pytest.fixture
def secret(tmp_path):
    """A file that is not the folder's."""
    path = tmp_path / "passwd"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def run(tmp_path):
    """A run folder of `vbayes train`."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"command": "train", "pair": "vae", "data": "digits", "estimator": "STL()"})
    )
    (folder / "figure.png").write_bytes(b"\x89PNG")
    return folder


def pages(run):
    """All that are made of it."""
    made = [vb.report(run), index(run.parent), page(run.parent / "all.html", [run], title="All")]
    return [path.read_text("utf-8") for path in made]


def links(text):
    return [unescape(target) for target in re.findall(r'(?:href|src|action)="([^"]*)"', text)]


@pytest.mark.parametrize("name", ["report.html.part", "report.html", "index.html", "index.html.part", "all.html.part"])
def test_a_link_where_a_page_is_written(run, secret, name):
    (run.parent / name).symlink_to(secret)
    (run / name).symlink_to(secret)
    pages(run)
    assert secret.read_bytes() == SECRET
    assert not (run / "report.html").is_symlink() and not (run.parent / "index.html").is_symlink()


def test_a_link_to_nothing_makes_no_file(run, tmp_path):
    (run / "report.html.part").symlink_to(tmp_path / "planted")
    (run / "report.html").symlink_to(tmp_path / "planted")
    pages(run)
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("how", ["link", "hard to follow", "pipe", "folder", "endless"])
def test_what_is_no_picture_of_the_folder(run, secret, how):
    """Is left out; a pipe would be waited for, and what has holes fill the memory."""
    for name in ("planted.png", "figure-001-planted.png"):
        if how == "link":
            (run / name).symlink_to(secret)
        elif how == "hard to follow":
            (run / "chain").unlink(missing_ok=True)
            (run / "chain").symlink_to(secret)
            (run / name).symlink_to("chain")
        elif how == "pipe":
            os.mkfifo(run / name)
        elif how == "folder":
            (run / name).mkdir()
        else:
            (run / name).symlink_to("/dev/zero")
    for text in pages(run):
        assert "planted" not in text and "cm9vdDp4" not in text  # base64 of "root:x"
    assert "figure.png" in vb.report(run).read_text("utf-8")


@pytest.mark.parametrize("name", ["config.json", "results.json", "diagnosis.json", "history.csv"])
@pytest.mark.parametrize("how", ["link", "pipe", "folder", "holes"])
def test_what_is_no_file_of_the_folder(run, secret, name, how):
    """Is one error, by its name; the index goes on with the rest."""
    vb.report(run)
    (run / name).unlink(missing_ok=True)
    if how == "link":
        secret.write_text('{"verdict": "of somebody else"}')
        (run / name).symlink_to(secret)
    elif how == "pipe":
        os.mkfifo(run / name)
    elif how == "folder":
        (run / name).mkdir()
    else:
        with open(run / name, "wb") as file:
            file.truncate(2**40)
    with pytest.raises(vb.errors.BadInput, match=f"{name} can't be read"):
        vb.report(run)
    assert "of somebody else" not in index(run.parent).read_text("utf-8")


@pytest.mark.parametrize("name", ["table.csv", "posterior.nc", "fit.safetensors"])
def test_a_link_is_not_offered(run, secret, name):
    """The page is read on another machine, where it would lead to that machine's file."""
    (run / name).symlink_to(secret)
    assert name not in vb.report(run).read_text("utf-8")


NAMES = ["javascript:alert(1).png", 'x" onerror="alert(1).png', "<script>alert(1)<!--.png", "data:text,x.png", "?#&%41.png", " .png", "\udcff.png", "ü.png"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files(run, name):
    (run / name).write_bytes(b"\x89PNG")
    text = vb.report(run).read_text("utf-8")
    inside = [target for target in links(text) if not target.startswith("data:image/png;base64,")]
    assert all(not urlsplit(target).scheme and not urlsplit(target).netloc for target in inside)
    assert os.fsencode(name) in [os.fsencode(unquote(target, errors="surrogateescape")) for target in inside]
    assert text.count("<script") == 1 and 'onerror="' not in text  # the page's own, which sorts


@pytest.mark.parametrize("name", ["javascript:alert(1)", '"><script>', "..%2f..", "\udcff"])
def test_names_of_folders(run, name):
    vb.report(run)
    run.rename(run.with_name(name))
    run = run.with_name(name)
    for text in pages(run)[1:]:
        assert all(urlsplit(target).scheme in ("", "data") for target in links(text)) and text.count("<script") == 1
        target = next(target for target in links(text) if target.endswith("/report.html"))
        assert os.fsencode(unquote(target, errors="surrogateescape")) == os.fsencode(f"{name}/report.html")


def test_folders_that_are_links(run, tmp_path):
    """An index leads to none."""
    vb.report(run)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "report.html").touch()
    (elsewhere / "results.json").write_text('{"question": "Planted?"}')
    (run.parent / "linked").symlink_to(elsewhere)
    text = index(run.parent).read_text("utf-8")
    assert "linked" not in text and "Planted" not in text and "mine" in text


def test_text_that_is_no_unicode(run):
    """JSON can write half of a character."""
    (run / "diagnosis.json").write_text('{"verdict": "\\ud800"}')
    assert all(pages(run))


def test_a_full_disk_leaves_the_page_and_nothing_else(run, monkeypatch):
    vb.report(run)
    before = {path: path.read_bytes() for path in run.iterdir()}

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(regular_file.os, "fsync", full)
    with pytest.raises(vb.errors.OutputUnwritable, match="No space left"):
        vb.report(run)
    assert {path: path.read_bytes() for path in run.iterdir()} == before
