"""Zip files that torch doesn't write are refused."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_files import state, storage, tensor, zip_file

from openxclip.checkpoints.archive import read_archive
from openxclip.checkpoints.pickled import read_pickled
from openxclip.errors import CheckpointError

PICKLE = state(("a", tensor(storage(4), (4,), (1,))))
NUMBERS = np.arange(4, dtype="<f4").tobytes()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return zip_file(tmp_path / "weights.pth", PICKLE, {"data/0": NUMBERS})


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_pickled(path)
    assert str(caught.value).startswith(str(path))


def test_a_valid_archive_is_read(good: Path) -> None:
    assert torch.equal(read_pickled(good)["a"].load(), torch.arange(4.0))


def zipped(path: Path, *records: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records:
            archive.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_second_data_pkl_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x", ("archive/data.pkl", PICKLE), ("archive/data.pkl", b"cos\nsystem\n."))
    refused(path, "two records named 'archive/data.pkl'")
    path = zipped(tmp_path / "y", ("archive/data.pkl", PICKLE), ("other/data.pkl", PICKLE))
    refused(path, "one folder")
    refused(zipped(tmp_path / "z", ("data.pkl", PICKLE)), "one folder")
    refused(zipped(tmp_path / "w", ("archive/else.pkl", PICKLE)), "no data.pkl")


def test_a_compressed_record_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x", ("archive/data.pkl", b"N" * 50_000_000), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    refused(path, "compressed")


def test_a_long_pickle_is_refused(tmp_path: Path) -> None:
    refused(zip_file(tmp_path / "x", b"N" * (65 << 20)), "more than 67108864")


def edited(path: Path, edit: Callable[[bytearray, int, int], None]) -> None:
    """Edit the bytes, given the positions of data/0 in the central directory and of its local header."""
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\x01\x02", 0, content.rfind(b"archive/data/0"))
    edit(content, entry, struct.unpack_from("<L", content, entry + 42)[0])
    path.write_bytes(content)


EDITS: dict[str, tuple[Callable[[bytearray, int, int], None], str]] = {
    "overlapping records": (lambda c, e, h: struct.pack_into("<L", c, e + 42, 0), "says something else"),
    "outside the file": (lambda c, e, h: struct.pack_into("<L", c, e + 42, 1 << 30), "outside the file"),
    "longer than the file": (lambda c, e, h: struct.pack_into("<LL", c, e + 20, 1 << 30, 1 << 30), "reaches beyond"),
    "zip64 without its field": (lambda c, e, h: struct.pack_into("<L", c, e + 24, 0xFFFFFFFF), "size of a record"),
    "encrypted": (lambda c, e, h: struct.pack_into("<H", c, e + 8, 1), "encrypted"),
    "another name in its header": (lambda c, e, h: c.__setitem__(h + 30, ord("b")), "says something else"),
    "no header": (lambda c, e, h: c.__setitem__(h, 0), "says something else"),
    "a record too many": (lambda c, e, h: struct.pack_into("<HH", c, len(c) - 14, 9, 9), "damaged"),
    "a record too few": (lambda c, e, h: struct.pack_into("<HH", c, len(c) - 14, 2, 2), "longer than it says"),
    "parts": (lambda c, e, h: struct.pack_into("<H", c, len(c) - 14, 1), "several parts"),
    "a comment": (lambda c, e, h: c.extend(b"comment"), "end of the archive is missing"),
    "a gap before the end": (lambda c, e, h: c.__setitem__(slice(-22, -22), b"12345"), "belong to no record"),
    "bytes before it": (lambda c, e, h: c.__setitem__(slice(0, 0), MAGIC + b"1"), "."),
}
MAGIC = b"PK\x03\x04"


@pytest.mark.parametrize("edit", list(EDITS))
def test_edited_archives_are_refused(good: Path, edit: str) -> None:
    change, message = EDITS[edit]
    edited(good, change)
    refused(good, message)


def test_nested_records_are_refused(tmp_path: Path) -> None:
    """A record inside another one, so that two readers see different contents."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("archive/data/0", NUMBERS)
    path = zipped(
        tmp_path / "x", ("archive/data.pkl", PICKLE), ("archive/outer", inner.getvalue()), ("archive/data/0", NUMBERS)
    )
    content = bytearray(path.read_bytes())
    inside = content.find(b"PK\x03\x04", content.find(b"archive/outer"))
    entry = content.rfind(b"PK\x01\x02", 0, content.rfind(b"archive/data/0"))
    struct.pack_into("<L", content, entry + 42, inside)
    path.write_bytes(content)
    refused(path, "overlap")


def test_a_wrong_checksum_is_refused(good: Path) -> None:
    content = good.read_bytes()
    good.write_bytes(content.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v3"))
    refused(good, "checksum")


def test_zip64_sizes_are_read(good: Path, tmp_path: Path) -> None:
    """zip64 as in files beyond 4 GiB, in a small file."""
    content = bytearray(good.read_bytes())
    end = len(content) - 22
    count, size, start = struct.unpack_from("<HLL", content, end + 10)
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    closing = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    good.write_bytes(content[:end] + wide + locator + closing)
    assert torch.equal(read_pickled(good)["a"].load(), torch.arange(4.0))
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1 << 60, 1 << 60, size, start)
    good.write_bytes(content[:end] + wide + locator + closing)
    refused(good, "more than any model has")


def test_records_equal_those_of_zipfile(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(3), "b": torch.ones(500)}, path)
    found = read_archive(path).records
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            record = found[info.filename.split("/", 1)[1]]
            assert record.size == info.file_size
            content = path.read_bytes()[record.offset : record.offset + record.size]
            assert content == archive.read(info)
