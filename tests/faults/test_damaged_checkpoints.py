"""Checkpoints with the damage that disks, copies and editors do: each is one error that says what is damaged, and none goes on in silence."""

from __future__ import annotations

import functools
import json
import random
import re
import struct

import pyro
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import vbayes as vb
from vbayes.errors import BadInput
from vbayes.training import checksum

DATA = torch.tensor([1.0, 2.0])


@pytest.fixture(scope="module")
def fit():
    return vb.fit(vb.pairs.normal_normal(), DATA, "trace", steps=5, progress=False, compile=False)


@pytest.fixture(scope="module")
def whole(fit, tmp_path_factory):
    """The bytes of a checkpoint."""
    return fit.save(tmp_path_factory.mktemp("saved") / "fit.safetensors").read_bytes()


@pytest.fixture
def path(whole, tmp_path):
    (tmp_path / "fit.safetensors").write_bytes(whole)
    return tmp_path / "fit.safetensors"


def load(path):
    return vb.Fit.load(path, vb.pairs.normal_normal(), DATA, estimator="trace")


def told(path):
    """What a file says, and its tensors."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["vbayes"]), {name: file.get_tensor(name) for name in file.keys()}


def older(path, described, tensors):
    """A file as it was written before there were checksums."""
    save_file(tensors, path, metadata={"vbayes": json.dumps(described)})


def test_a_file_that_is_not_there_is_not_damaged(path):
    """It is said what is there instead."""
    for other, words in {
        "fit.safetensor": "There is no file or folder .*fit.safetensor. Did you mean 'fit.safetensors'",
        "other/fit.safetensors": "There is no folder .*other.",
        ".": "is a folder. Wanted: a file that.* Fix: '.*fit.safetensors', which is in it",
    }.items():
        with pytest.raises(BadInput, match=words) as caught:
            load(path.parent / other)
        assert "damaged" not in str(caught.value) and "Errno" not in str(caught.value)
    for kind in (vb.Comparison, vb.Race):
        with pytest.raises(BadInput, match="There is no file or folder .*fit.json. Did you mean 'fit.safetensors'"):
            kind.load(path.with_suffix(".json"))


def test_every_kind_of_byte_is_under_the_checksum(path, whole):
    """One bit in each of some hundred bytes of the header and of the tensors."""
    length = struct.unpack("<Q", whole[:8])[0]
    places = [
        *range(8),
        *range(8, 8 + length, length // 150),
        *range(8 + length, len(whole), (len(whole) - length) // 100),
    ]
    draw = random.Random(0)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match="damaged: (.|\n)*Nothing was changed(.|\n)*Wanted"):
            load(path)
    assert len(places) > 250


def test_the_keys_by_which_an_older_file_is_told(path, whole):
    """No damage makes a file look like one that never had a checksum."""
    for key in (b'"version"', b'"sha256"', b'"vbayes"', b'"__metadata__"', b'"tensors"'):
        start = whole.index(key)
        for place in range(start, start + len(key)):
            for bit in (0, 3, 5):
                damaged = bytearray(whole)
                damaged[place] ^= 1 << bit
                path.write_bytes(damaged)
                with pytest.raises(BadInput, match="is damaged"):
                    load(path)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 500, -1, -3000])
def test_cut_short(path, whole, length):
    path.write_bytes(whole[:length])
    with pytest.raises(BadInput, match="damaged: (it is cut short|it has no header|it can't be read|Expecting)"):
        load(path)


@pytest.mark.parametrize("name", ["parameter.loc", "history", "progress"])
def test_it_says_what_is_damaged(path, whole, name):
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    full = next(key for key in header if key.startswith(name))
    damaged = bytearray(whole)
    damaged[8 + length + header[full]["data_offsets"][0]] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BadInput, match=f"fit.safetensors is damaged: its tensor '{full}'"):
        load(path)
    path.write_bytes(whole.replace(b'\\"seed\\": 0', b'\\"seed\\": 1'))
    with pytest.raises(BadInput, match="fit.safetensors is damaged: its header"):
        load(path)


def test_edited_by_hand(path, whole):
    """As by an editor, which keeps the file whole: it loaded, with another seed."""
    described, tensors = told(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata=metadata | {"vbayes": json.dumps(described | {"seed": 7})})
    with pytest.raises(BadInput, match="is damaged"):
        load(path)


def test_an_older_file_still_loads(fit, path):
    """One with neither version nor checksum; what is saved again has both."""
    older(path, *told(path))
    again = load(path)
    assert again.rows == fit.rows and again.resume(steps=3, progress=False).rows[-1][2] == fit.resume(steps=3, progress=False).rows[-1][2]  # fmt: skip
    with safe_open(again.save(path), framework="pt") as file:
        assert file.metadata()["version"] == checksum.VERSION and len(file.metadata()["sha256"]) == 64


def test_a_newer_file(path, monkeypatch):
    described, tensors = told(path)
    monkeypatch.setattr(checksum, "VERSION", "2")
    checksum.write(tensors, path, json.dumps(described))
    monkeypatch.undo()
    with pytest.raises(BadInput, match="version '2'"):
        load(path)


POISONS = [None, True, -1, 1.5, "x", [], {}, [1], {"x": 1}, {"tensor": "nowhere"}, {"list": 1}, {"tuple": [1, 2]}, {"dict": [[1]]}, {"dict": [[{"list": []}, 1]]}, float("nan"), 10**400]  # fmt: skip


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("field", ["pair", "estimator", "batch_size", "learning_rate", "seed", "interrupted", "compile", "switches", "convergence", "progress"])  # fmt: skip
def test_other_fields(path, field, sealed):
    """Whoever writes a file can write its checksum too, and an older one has none: all that loads has the right types, and the rest is one error."""
    described, tensors = told(path)
    right = load(path)
    refused = 0
    for poison in [*POISONS, "missing"]:
        changed = {name: value for name, value in described.items() if name != field or poison != "missing"}
        if poison != "missing":
            changed[field] = poison
        checksum.write(tensors, path, json.dumps(changed)) if sealed else older(path, changed, tensors)
        try:
            found = load(path)
        except BadInput as error:
            refused += 1
            assert field in str(error) and "Wanted" in str(error) or "Pass that" in str(error)
        else:
            ours, theirs = getattr(right, field), getattr(found, field)
            assert type(ours) is type(theirs) or theirs is None or field in ("compile", "learning_rate", "batch_size")
    assert refused >= 9


def poisoned(value, poison):
    """Every nest of JSON in which one leaf is something else."""
    if isinstance(value, dict):
        for name in value:
            for inner in poisoned(value[name], poison):
                yield {**value, name: inner}
    elif isinstance(value, list):
        for place in range(min(len(value), 3)):
            for inner in poisoned(value[place], poison):
                yield [*value[:place], inner, *value[place + 1 :]]
    yield poison


@pytest.mark.parametrize("poison", ["x", None, {"tensor": "history"}], ids=str)
def test_other_states(path, poison):
    """Of generators and optimiser: what loads is a fit, which goes on or is refused in words."""
    described, tensors = told(path)
    for progress in poisoned(described["progress"], poison):
        older(path, described | {"progress": progress}, tensors)
        try:
            load(path)
        except BadInput as error:
            assert "field 'progress'" in str(error)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, pyro.optim.Adam({"lr": 0.01})], ids=["torch", "pyro"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1)], ids=str)
def test_a_state_of_other_parameters(tmp_path, optimizer, shape):
    """Found when it is loaded: shapes that broadcast would never be, the others at the first step."""
    short = vb.fit(vb.pairs.normal_normal(), DATA, "trace", steps=5, progress=False, compile=False, optimizer=optimizer)
    path = short.save(tmp_path / "fit.safetensors")
    described, tensors = told(path)
    states = [name for name, tensor in tensors.items() if name.startswith("progress") and tensor.shape == (2,)]
    assert len(states) == 2  # of loc, as Adam has them
    for name in states:
        checksum.write(tensors | {name: torch.zeros(shape)}, path, json.dumps(described))
        with pytest.raises(
            BadInput, match=f"damaged: (.|\n)*the optimiser's 'exp_avg.*' of '.*loc' has shape {re.escape(str(shape))}"
        ):
            vb.Fit.load(path, vb.pairs.normal_normal(), DATA, estimator="trace", optimizer=optimizer)


def test_where_a_schedule_stands(tmp_path):
    """Of a training that goes until it has converged: what is forged is found before it goes on."""

    def stop(state):
        if state.step > 100:
            raise ZeroDivisionError

    path, pair = tmp_path / "fit.safetensors", vb.pairs.normal_normal
    call = functools.partial(vb.fit, data=DATA, estimator="stl", checkpoint=path, every=0, progress=False)
    with pytest.raises(ZeroDivisionError):
        call(pair(), callbacks=[stop])
    described, tensors = told(path)
    places = dict(enumerate(described["going"]["dict"]))
    number = next(place for place, (name, _) in places.items() if name == "schedule")
    assert described["going"]["dict"][number][1]
    for poison in (1, "x", [], {"dict": []}, {"dict": [["plain", 1]]}):
        forged = json.loads(json.dumps(described))
        forged["going"]["dict"][number][1] = poison
        checksum.write(tensors, path, json.dumps(forged))
        with pytest.raises(BadInput, match="is damaged"):
            call(pair())
    for name in [name for name, tensor in tensors.items() if name.startswith("progress") and tensor.shape == (2,)][:6]:
        checksum.write(tensors | {name: torch.zeros(3)}, path, json.dumps(described))
        with pytest.raises(BadInput, match="is damaged"):
            call(pair())
    checksum.write(tensors, path, json.dumps(described))
    assert call(pair(), max_steps=None).convergence.converged


def test_other_tensors(path):
    described, tensors = told(path)
    for name, tensor in tensors.items():
        for other in (None, tensor.double().reshape(-1)[:-1], tensor.to(torch.int32), torch.full((), -1)):
            changed = {key: value for key, value in tensors.items() if key != name} | ({} if other is None else {name: other})  # fmt: skip
            older(path, described, changed)
            if other is None or not name.startswith("progress"):
                with pytest.raises(BadInput, match="damaged|same sizes"):
                    load(path)


@pytest.mark.parametrize("content", ["[]", "null", "1", '"x"', "{", "[" * 100_000, '{"pair": "normal_normal"}'])
def test_other_descriptions(path, content):
    _, tensors = told(path)
    for write in (lambda: checksum.write(tensors, path, content), lambda: save_file(tensors, path, metadata={"vbayes": content})):  # fmt: skip
        write()
        with pytest.raises(BadInput, match="damaged"):
            load(path)


def test_a_link_where_it_is_saved(fit, tmp_path):
    """Goes, and what it leads to stays."""
    other = tmp_path / "somebody's file"
    other.write_text("kept")
    for name in ("fit.safetensors.part", "fit.safetensors"):
        (tmp_path / name).symlink_to(other)
    fit.save(tmp_path / "fit.safetensors")
    assert other.read_text() == "kept" and load(tmp_path / "fit.safetensors").rows == fit.rows
    assert sorted(tmp_path.iterdir()) == [tmp_path / "fit.safetensors", other]


def test_something_in_the_way(fit, tmp_path):
    (tmp_path / "fit.safetensors.part").mkdir()
    with pytest.raises(vb.errors.OutputUnwritable, match="Can't write"):
        fit.save(tmp_path / "fit.safetensors")
