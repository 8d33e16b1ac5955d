"""Pickles are read and never run, and their cost is bounded."""

from __future__ import annotations

import argparse
import collections
import pickle
import random
import shutil
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_files import legacy_file, number, state, storage, tensor, text, zip_file
from yacs.config import CfgNode

import openxclip
from openxclip.checkpoints import read_checkpoint
from openxclip.checkpoints.pickled import LEGACY_MAGIC, Stored, read_pickled
from openxclip.checkpoints.stand_ins import Settings
from openxclip.errors import CheckpointError

FOUR_FLOATS = {"data/0": np.arange(4, dtype="<f4").tobytes()}
GOOD = tensor(storage(4), (2, 2), (2, 1))


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_pickled(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 600
    return message


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n(".encode() + b"".join(arguments) + b"tR"


# Attacks: a pickle with a place for a command, and the name that the refusal must contain.
TOUCH = "touch '{marker}'"
ATTACKS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "reduce": (lambda c: call("os", "system", c), "os.system"),
    "posix": (lambda c: call("posix", "system", c), "posix.system"),
    "eval": (lambda c: call("builtins", "eval", c), "builtins.eval"),
    "exec, python 2": (lambda c: call("__builtin__", "exec", c), "__builtin__.exec"),
    "stack global": (lambda c: text("os") + text("system") + b"\x93(" + c + b"tR", "os.system"),
    "inst": (lambda c: b"(" + c + b"ios\nsystem\n", "os.system"),
    "obj": (lambda c: b"(cos\nsystem\n" + c + b"o", "os.system"),
    "newobj": (lambda c: b"csubprocess\nPopen\n(" + c + b"t\x81", "subprocess.Popen"),
    "newobj_ex": (lambda c: b"csubprocess\nPopen\n(" + c + b"t}\x92", "subprocess.Popen"),
    "import, getattr": (
        lambda c: call("builtins", "getattr", call("builtins", "__import__", text("os")), text("system")) + c,
        "builtins.getattr",
    ),
    "attrgetter": (lambda c: call("operator", "attrgetter", text("system")) + c, "operator.attrgetter"),
    "partial": (lambda c: call("functools", "partial", b"cos\nsystem\n", c), "functools.partial"),
    "nested pickle": (lambda c: call("pickle", "loads", b"C\x01."), "pickle.loads"),
    "torch.load": (lambda c: call("torch", "load", c), "torch.load"),
    "torch.storage": (lambda c: call("torch.storage", "_load_from_bytes", c), "torch.storage._load_from_bytes"),
    "hooks of a subclass": (
        lambda c: call("torch._tensor", "_rebuild_from_type_v2", b"cos\nsystem\n", c, b")}"),
        "torch._tensor._rebuild_from_type_v2",
    ),
    "a name by dots": (
        lambda c: text("collections") + text("OrderedDict.__class__") + b"\x93(" + c + b"tR",
        "__class__",
    ),
    "a negated view": (
        lambda c: tensor(storage(4), (4,), (1,))[:-1].removesuffix(b"t") + b"}" + text("neg") + b"\x88stR",
        "negated",
    ),
    "state of a stand-in": (
        lambda c: b"cargparse\nNamespace\n)\x81}" + text("__setstate__") + b"cos\nsystem\nsb",
        "os.system",
    ),
    "state of a class": (
        lambda c: b"cyacs.config\nCfgNode\n}" + text("__init__") + c + b"sb",
        "sets the state of yacs.config.CfgNode",
    ),
    "a state of two parts": (
        lambda c: b"ccollections\nOrderedDict\nN}" + text("__call__") + c + b"s\x86b",
        "sets the state of collections.OrderedDict",
    ),
    "calls what it made": (
        lambda c: b"cargparse\nNamespace\n)\x81(" + c + b"tR",
        "calls an object of argparse.Namespace",
    ),
    "extension registry": (lambda c: b"\x82\x01", "EXT1"),
    "persistent id as text": (lambda c: b"Pos.system\n", "PERSID"),
    "a reference that is none": (lambda c: b"(" + c + c + b"tQ", "no storage"),
    "a whole class of numpy": (lambda c: call("numpy", "load", c), "numpy.load"),
    "objects by numpy": (lambda c: call("numpy", "dtype", text("O8"), b"\x89\x88"), "no numbers"),
    "codecs": (lambda c: call("_codecs", "encode", c, text("zlib")), "latin1"),
    "memory": (lambda c: call("builtins", "bytearray", number(1 << 40)), "builtins.bytearray"),
    "a tensor with hooks": (
        lambda c: tensor(storage(4), (4,), (1,), hooks=b"}" + text("x") + b"I1\ns"),
        "hooks",
    ),
}


@pytest.mark.parametrize("layout", [zip_file, legacy_file])
@pytest.mark.parametrize("attack", list(ATTACKS))
def test_attacks_are_refused_and_nothing_runs(attack: str, layout: Any, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    make, named = ATTACKS[attack]
    content = state(("model", b"}" + text("a") + make(text(TOUCH.format(marker=marker))) + b"s"))
    path = layout(tmp_path / "weights.pth", content, FOUR_FLOATS if layout is zip_file else None)
    message = refused(path)
    assert "refused" in message
    assert named in message
    assert not marker.exists()


def test_attacks_run_in_pythons_own_reader(tmp_path: Path) -> None:
    """This shows that the attacks of the test above work: Python's own reader runs them."""
    for attack in ("reduce", "posix", "stack global", "inst", "obj"):
        marker = tmp_path / attack
        make, _ = ATTACKS[attack]
        pickle.loads(b"\x80\x02" + make(text(TOUCH.format(marker=marker))) + b".")
        assert marker.exists(), attack


@pytest.mark.parametrize("name", ["weights.pth", "pytorch_model.bin"])
@pytest.mark.parametrize("attack", ["reduce", "obj", "newobj", "state of a stand-in"])
def test_attacks_on_a_model(attack: str, name: str, tiny_folder: Path, tmp_path: Path) -> None:
    marker, folder = tmp_path / "ran", Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    make, named = ATTACKS[attack]
    target = zip_file(folder / name, state(("a", make(text(TOUCH.format(marker=marker))))))
    with pytest.raises(CheckpointError, match=named):
        openxclip.XCLIPModel.from_pretrained(folder if name.endswith(".bin") else target)
    assert not marker.exists()


# What would take memory or time

DEEP = b"".join(b"\x85q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))  # doubles 60 times
MILLION = b"]" + b"(" + b"(I1\nI1\nt" * 100_000 + b"e"
BOMBS: dict[str, tuple[bytes, str]] = {
    "memo": (b"}r\xff\xff\xff\x7f", "numbers an object"),
    "memo by text": (b"}p99999999999\n", "numbers an object"),
    "storage": (tensor(storage(1 << 40), (4,), (1,)), "4398046511104 bytes"),
    "beyond the file": (tensor(storage(5_000), (4,), (1,)), "5000|20000"),
    "beyond its storage": (tensor(storage(4), (1 << 30,), (1,)), "reaches beyond"),
    "offset": (tensor(storage(4), (4,), (1,), offset=1), "reaches beyond"),
    "stride": (tensor(storage(4), (2, 2), (1 << 40, 1)), "reaches beyond"),
    "one number, spread": (tensor(storage(4), (1 << 40,), (0,)), "on 4 numbers"),
    "negative offset": (tensor(storage(4), (2,), (1,), offset=-1), "impossible"),
    "negative size": (tensor(storage(4), (-2,), (1,)), "impossible"),
    "negative stride": (tensor(storage(4), (2,), (-1,)), "impossible"),
    "many dimensions": (tensor(storage(4), (1,) * 200, (1,) * 200), "impossible"),
    "uneven": (tensor(storage(4), (2, 2), (1,)), "impossible"),
    "two storages of one name": (GOOD + tensor(storage(2), (1,), (1,)) + b"\x86", "two storages"),
    "a key that takes forever": (b"}N" + DEEP + b"Ns", "as a key"),
    "a key of many digits": (b"}" + number(1 << 62) + b"Ns", "as a key"),
    "copies": (MILLION + b"q\x01" + b"ccollections\nOrderedDict\nh\x01\x85R0" * 200, "steps"),
    "a name that is many": (call("_codecs", "encode", text("x"), b"N" + DEEP), "a str is expected"),
    "many arguments": (b"(" + b"N" * 100_000 + b"tq\x01" + b"0cargparse\nNamespace\nh\x01R" * 20 + b"0" * 19, "steps"),
    "long paths": (b"(" + text("x" * 60) * 20_000 + b"tq\x01" + b"0cpathlib\nPosixPath\nh\x01R" * 100, "steps"),
    "a size of letters": (call("torch", "Size", text("x" * 1_000_000)), "impossible"),
    "an empty tensor far out": (tensor(storage(4), (0,), (1,), offset=1 << 40), "reaches beyond"),
    "steps": (b"N0" * 600_000 + b"N", "steps"),
}


SLOW = ("copies", "many arguments", "long paths", "steps")


@pytest.mark.parametrize("bomb", [pytest.param(bomb, marks=[pytest.mark.slow] * (bomb in SLOW)) for bomb in BOMBS])
def test_costly_pickles_are_refused(bomb: str, tmp_path: Path) -> None:
    piece, expected = BOMBS[bomb]
    path = zip_file(tmp_path / "weights.pth", state(("a", piece)), FOUR_FLOATS)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=expected):
            read_pickled(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_legacy_storages_are_checked_too(tmp_path: Path) -> None:
    four = np.arange(4, dtype="<f4").tobytes()
    good = state(("a", GOOD))
    found = read_pickled(legacy_file(tmp_path / "good", good, {"0": (4, four)}))
    assert torch.equal(found["a"].load(), torch.arange(4.0).view(2, 2))
    for storages in ({}, {"0": (5, four)}, {"0": (4, four[:8])}, {"0": (-1, four)}, {"1": (4, four)}):
        path = legacy_file(tmp_path / "bad", good, storages)
        assert "damaged" in refused(path)


def test_recursive_values_are_read_once(tmp_path: Path) -> None:
    cycle = b"}q\x01" + text("model") + b"}" + text("a") + GOOD + b"s" + b"s" + text("config") + b"h\x01s"
    path = zip_file(tmp_path / "weights.pth", b"\x80\x02" + cycle + b".", FOUR_FLOATS)
    with pytest.raises(CheckpointError, match="neither an X-CLIP nor a CLIP"):
        read_checkpoint(path)
    lists = b"]q\x00" + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60))
    path = zip_file(
        tmp_path / "lists.pth", state(("model", b"}" + text("a") + GOOD + b"s"), ("config", lists)), FOUR_FLOATS
    )
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02}",
        b"\x80\x02(.",
        b"\x80\x02}}.",
        b"R.",
        b"\x80\x02h\x05.",
        b"\x80\x09N.",
        b"\x80\x02]}s.",
        b"\x80\x02(l(I1\nIx\nt.",
        b"\x80\x02]Na}(N\x00",
        b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    ],
    ids=repr,
)
def test_damaged_pickles(content: bytes, tmp_path: Path) -> None:
    assert "damaged" in refused(zip_file(tmp_path / "weights.pth", content))


def test_a_pickle_that_pops_more_than_it_pushed(tmp_path: Path) -> None:
    for content in (b"R.", b"\x80\x02N(s."):
        assert "it pops more than it pushed" in refused(zip_file(tmp_path / "weights.pth", content))


def test_other_formats_are_named(tmp_path: Path) -> None:
    tar = tmp_path / "old.tar"
    tar.write_bytes(b"storages".ljust(257, b"\0") + b"ustar\x0000" + b"\0" * 300)
    assert "tar format" in refused(tar)
    assert "big-endian" in refused(zip_file(tmp_path / "big", state(), {"byteorder": b"big"}))
    tar.write_bytes(
        b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": False}, {}, []))
    )
    assert "big-endian" in refused(tar)


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    """Files with changed, lost and added bytes are read, or refused with a CheckpointError."""
    value = {
        "model": {"a": torch.ones(2, 3), "b": torch.nn.Parameter(torch.ones(3))},
        "config": CfgNode({"A": {"B": 1}}),
    }
    torch.save(value, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        records = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    good, draw, outcomes = records.pop("data.pkl"), random.Random(0), set()
    for _ in range(400):
        content = bytearray(good)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(content))
            kind = draw.randrange(3)
            if kind == 0:
                content[at] = draw.randrange(256)
            elif kind == 1:
                del content[at : at + draw.randint(1, 8)]
            else:
                content[at:at] = draw.choice(
                    [b"R", b"b", b"0", b"2", b"(", b"t", b"u", b"s", b"a", b"h\x01", b"\x81", b"Q"]
                )
        try:
            read_pickled(zip_file(tmp_path / "x.pth", bytes(content), records))
        except CheckpointError as error:
            outcomes.add("refused" if "refused" in str(error) else "damaged")
        else:
            outcomes.add("read")
    assert outcomes == {"read", "refused", "damaged"}


# Values that torch writes


@pytest.mark.parametrize("zipped", [True, False])
def test_values_equal_those_of_torch(tmp_path: Path, zipped: bool) -> None:
    base = torch.randn(6, 4)
    value = {
        "model": OrderedDict(
            a=base, b=base[2:4, 1:], c=base.T, half=base.half(), bf=base.bfloat16(), none=torch.zeros(0, 3)
        ),
        "p": torch.nn.Parameter(torch.ones(3)),
        "i": torch.arange(5),
        "bool": torch.tensor([True, False]),
        "f64": torch.zeros(2, dtype=torch.float64),
        "number": torch.tensor(2.5),
        "optimizer": {
            "state": {0: {"step": torch.tensor(1.0)}},
            "param_groups": [{"betas": (0.9, 0.98), "params": [0]}],
        },
        "max_accuracy": np.float64(80.4),
        "epoch": 29,
        "size": torch.Size([2, 3]),
        "args": argparse.Namespace(lr=1e-3, path=Path("x/y")),
        "sets": {1, 2},
        "config": CfgNode({"DATA": {"DATASET": "kinetics400", "NUM_FRAMES": 8}, "BASE": [""]}),
        "text": "ü",
        "bytes": b"\x00\xff",
        "random": np.random.RandomState(0).get_state(),
    }
    path = tmp_path / "weights.pth"
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    assert path.read_bytes().startswith(b"PK" if zipped else LEGACY_MAGIC)
    read: Any = read_pickled(path)
    for name, expected in value["model"].items():
        assert isinstance(read["model"][name], Stored)
        tensor = read["model"][name].load()
        assert torch.equal(tensor, expected), name
        assert tensor.dtype == expected.dtype
        assert tensor.stride() == expected.stride()
    for name in ("p", "i", "bool", "f64", "number"):
        assert torch.equal(read[name].load(), value[name]), name
    assert read["max_accuracy"] == 80.4
    assert read["epoch"] == 29
    assert read["size"] == (2, 3)
    assert read["args"].state == {"lr": 1e-3, "path": "x/y"}
    assert read["sets"] == {1, 2}
    assert isinstance(read["config"], Settings)
    assert read["config"] == {"DATA": {"DATASET": "kinetics400", "NUM_FRAMES": 8}, "BASE": [""]}
    assert read["bytes"] == b"\x00\xff"
    assert read["optimizer"]["param_groups"] == [{"betas": (0.9, 0.98), "params": [0]}]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_pickle_protocol(protocol: int, tmp_path: Path) -> None:
    value = {
        "a": [1, -2, 1 << 40, 2.5, None, True, "ü\n'", (1, (2,), ())],
        "b": {"c": {}},
        "d": "x" * 300,
        "e": (1, 2, 3, 4),
    }
    if protocol >= 3:
        value["f"] = b"\x00" * 300
    assert read_pickled(zip_file(tmp_path / "x", pickle.dumps(value, protocol))) == value


def test_writing_to_a_mapped_tensor_keeps_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1 << 20)}, path)
    before = path.read_bytes()
    tensor = read_pickled(path)["a"].load()
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ranges = [tuple(int(end, 16) for end in line[0].split("-")) for line in mapped if line[-1] == str(path)]
    assert any(start <= tensor.data_ptr() < end for start, end in ranges)
    tensor.add_(1)
    assert path.read_bytes() == before


def test_counters_and_dictionaries_with_defaults(tmp_path: Path) -> None:
    """Types that schedulers and training loops save beside the weights."""
    default = collections.defaultdict(list, {"b": [1]})
    torch.save({"milestones": collections.Counter([30, 60]), "log": default}, tmp_path / "x.pth")
    assert read_pickled(tmp_path / "x.pth") == {"milestones": {30: 1, 60: 1}, "log": {"b": [1]}}


def test_yacs_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's name in a file needs no installed library."""
    path = tmp_path / "weights.pth"
    torch.save({"model": {"a": torch.ones(1)}, "config": CfgNode({"A": 1})}, path)
    monkeypatch.setitem(__import__("sys").modules, "yacs.config", None)
    assert read_pickled(path)["config"] == {"A": 1}
