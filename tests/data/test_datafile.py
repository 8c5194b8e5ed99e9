"""`fetch` finds the right file, and neither returns nor leaves behind a wrong one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from vbayes.data import DataFile, fetch
from vbayes.errors import DataUnavailable, VBayesError

BODY = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


@pytest.fixture
def file(server) -> DataFile:
    return DataFile("small/file.bin", SHA256, server.serve("file.bin", BODY))


@pytest.fixture
def own(tmp_path, cache, monkeypatch) -> Path:
    """An empty `$VBAYES_DATA`."""
    (tmp_path / "own" / "small").mkdir(parents=True)
    monkeypatch.setenv("VBAYES_DATA", str(tmp_path / "own"))
    return tmp_path / "own"


def test_a_download_is_kept_whole_and_alone(file, cache, server, capfd):
    path = fetch(file)
    assert path == cache / "small/file.bin" and path.read_bytes() == BODY
    assert files_in(cache) == ["small", "small/file.bin"]
    assert server.requests == ["/file.bin"]
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and file.url in err


def test_the_second_time_nothing_is_asked_for(file, cache, server, capfd):
    first = fetch(file)
    capfd.readouterr()
    assert fetch(file) == first and len(server.requests) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bad", [b"", BODY[:-1], BODY[:-1] + b"\0"], ids=["empty", "short", "altered"])
def test_a_corrupt_cached_file_is_downloaded_again(bad, file, cache, server):
    fetch(file).write_bytes(bad)
    assert fetch(file).read_bytes() == BODY
    assert len(server.requests) == 2 and files_in(cache) == ["small", "small/file.bin"]


def no_such_file(server):
    server.files.clear()


def cut_short(server):
    server.missing = 1


def another_file(server):
    server.serve("file.bin", BODY[::-1])


def half_a_file(server):
    server.serve("file.bin", BODY[: len(BODY) // 2])


def down(server):
    server.close()


@pytest.mark.parametrize(
    "fault, told",
    [
        (no_such_file, "404"),
        (cut_short, "IncompleteRead"),
        (another_file, hashlib.sha256(BODY[::-1]).hexdigest()),
        (half_a_file, hashlib.sha256(BODY[: len(BODY) // 2]).hexdigest()),
        (down, "ConnectionError"),
    ],
)
def test_a_failed_download_says_what_to_do_and_leaves_nothing(fault, told, file, cache, server):
    fault(server)
    with pytest.raises(DataUnavailable) as caught:
        fetch(file)
    assert isinstance(caught.value, VBayesError) and isinstance(caught.value, OSError)
    for part in (told, file.url, SHA256, "$VBAYES_DATA/small/file.bin", "not set"):
        assert part in str(caught.value), part
    assert files_in(cache) == ["small"]


def test_a_failed_download_leaves_the_next_one_free(file, cache, server):
    server.missing = 1
    with pytest.raises(DataUnavailable):
        fetch(file)
    server.missing = 0
    assert fetch(file).read_bytes() == BODY


def test_an_interrupted_download_leaves_nothing(file, cache, monkeypatch):
    def interrupted(self, url, output_file, pooch):
        Path(output_file).write_bytes(BODY[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(file)
    assert files_in(cache) == ["small"]


def test_a_cache_that_cannot_be_written_is_named(file, tmp_path, cache, monkeypatch):
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path / "no folder"))
    with pytest.raises(DataUnavailable, match="set VBAYES_CACHE") as caught:
        fetch(file)
    assert str(tmp_path / "no folder") in str(caught.value)


def test_without_vbayes_cache_the_operating_system_says_where(file, tmp_path, cache, monkeypatch):
    monkeypatch.delenv("VBAYES_CACHE")
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "system" / project)
    assert fetch(file) == tmp_path / "system/vbayes/small/file.bin"


def test_ones_own_file_comes_first(file, cache, own, server):
    (own / file.path).write_bytes(BODY)
    assert fetch(file) == own / file.path
    assert server.requests == [] and not cache.exists()


def test_a_bad_file_of_ones_own_is_an_error_and_stays(file, cache, own, server):
    (own / file.path).write_bytes(b"altered")
    with pytest.raises(DataUnavailable) as caught:
        fetch(file)
    for part in (str(own / file.path), hashlib.sha256(b"altered").hexdigest(), SHA256, file.url):
        assert part in str(caught.value), part
    assert (own / file.path).read_bytes() == b"altered"
    assert server.requests == [] and not cache.exists()


def test_a_file_that_is_not_among_ones_own_is_downloaded_to_the_cache(file, cache, own):
    assert fetch(file) == cache / file.path
    assert files_in(own) == ["small"]


def test_a_failed_download_says_what_vbayes_data_is(file, cache, own, server):
    server.files.clear()
    with pytest.raises(DataUnavailable) as caught:
        fetch(file)
    assert repr(str(own)) in str(caught.value)


def test_a_repacked_copy_serves_instead_and_is_checked_too(file, cache, own, server):
    repacked = DataFile("small/repacked.bin", hashlib.sha256(b"repacked").hexdigest())
    assert fetch(file, repacked) == cache / file.path
    (own / repacked.path).write_bytes(b"repacked")
    assert fetch(file, repacked) == own / repacked.path
    (own / repacked.path).write_bytes(b"altered")
    with pytest.raises(DataUnavailable, match=repacked.sha256):
        fetch(file, repacked)
    assert len(server.requests) == 1


def test_what_is_checked_may_be_the_content(file, cache, server):
    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes().strip()).hexdigest()

    spaced = replace(file, url=server.serve("spaced.bin", b" content "), digest=digest)
    with pytest.raises(DataUnavailable, match="of the content, not of the file"):
        fetch(spaced)
    good = replace(spaced, sha256=hashlib.sha256(b"content").hexdigest())
    assert fetch(good).read_bytes() == b" content "


def test_content_that_cannot_be_read_counts_as_wrong(file, cache):
    def digest(path: Path) -> str:
        raise KeyError("frames")

    with pytest.raises(DataUnavailable, match="unreadable, KeyError: 'frames'"):
        fetch(replace(file, digest=digest))
    assert files_in(cache) == ["small"]
