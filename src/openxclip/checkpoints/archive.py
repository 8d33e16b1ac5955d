"""Find the records of zip archives that torch.save wrote, without unpacking them.

Records of weights are stored, not compressed, so that they can be mapped. Archives that torch doesn't write (with a
compressed, encrypted or overlapping record, two records of one name, or bytes outside all records) are refused: two
readers might see different contents in them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from openxclip.common.files import cannot_read
from openxclip.errors import CheckpointError

MAGIC = b"PK\x03\x04"
_MAX_RECORDS = 200_000  # a training checkpoint of the largest CLIP has some 6,000
_MAX_DIRECTORY = 64 << 20  # bytes
_LOCAL, _LOCAL_MAGIC = struct.Struct("<4s5H3L2H"), MAGIC
_ENTRY, _ENTRY_MAGIC = struct.Struct("<4s6H3L5H2L"), b"PK\x01\x02"
_END, _END_MAGIC = struct.Struct("<4s4H2LH"), b"PK\x05\x06"
_END64, _END64_MAGIC = struct.Struct("<4sQ2H2L4Q"), b"PK\x06\x06"
_LOCATOR, _LOCATOR_MAGIC = struct.Struct("<4sLQL"), b"PK\x06\x07"
_IN_ZIP64 = 0xFFFFFFFF


@dataclass(frozen=True)
class Record:
    """Position of a record's bytes in the file."""

    offset: int
    size: int
    crc: int


@dataclass(frozen=True)
class Archive:
    """The records of a file by name, without the folder that torch puts all of them in."""

    path: Path
    records: Mapping[str, Record]

    def read(self, name: str, limit: int) -> bytes:
        """Return a record's bytes after verifying their checksum.

        Raises:
            CheckpointError: there is no such record, it is longer than `limit`, or it is damaged.
        """
        record = self.records.get(name)
        if record is None:
            raise CheckpointError(f"{self.path}: damaged, or not written by torch.save (it has no {name}).")
        if record.size > limit:
            raise CheckpointError(f"{self.path}: refused: its {name} has {record.size} bytes, more than {limit}.")
        with self.path.open("rb") as file:
            file.seek(record.offset)
            content = file.read(record.size)
        if zlib.crc32(content) != record.crc:
            raise CheckpointError(f"{self.path}: damaged: the checksum of {name} is wrong.")
        return content


class _NotAsWrittenError(Exception):
    """Describes what is wrong with an archive; `read_archive` adds the path."""


def read_archive(path: Path) -> Archive:
    """Return the records of a zip archive that torch.save or torch.jit.save wrote.

    Raises:
        CheckpointError: the archive is damaged, or another kind of zip.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start, end, count = _directory(file, size)
            file.seek(start)
            records = _records(file, file.read(end - start), count, start)
    except _NotAsWrittenError as wrong:
        raise CheckpointError(f"{path}: {wrong}.") from None
    except OSError as error:
        raise CheckpointError(cannot_read(path, error)) from error
    except struct.error as error:
        raise CheckpointError(f"{path}: damaged, or not written by torch.save ({error}).") from error
    roots = {name.split("/", 1)[0] for name in records}
    if len(roots) != 1 or any("/" not in name for name in records):
        raise CheckpointError(f"{path}: refused: not one folder in the archive, as torch.save makes it.")
    return Archive(path, MappingProxyType({name.split("/", 1)[1]: record for name, record in records.items()}))


def _directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Return start and end of the central directory, and its number of entries."""
    if size < _END.size:
        raise _NotAsWrittenError("damaged: the archive is cut off")
    tail_start = max(0, size - _END.size - _LOCATOR.size)  # torch writes no comment after it
    file.seek(tail_start)
    tail = file.read()
    magic, disk, directory_disk, disk_count, count, length, start, comment = _END.unpack(tail[-_END.size :])
    if magic != _END_MAGIC or comment:
        raise _NotAsWrittenError("damaged: the end of the archive is missing (was the download cut off?)")
    end = size - _END.size
    locator = tail[: -_END.size]
    if len(locator) == _LOCATOR.size and locator.startswith(_LOCATOR_MAGIC):
        end64 = _LOCATOR.unpack(locator)[2]
        if end64 + _END64.size != end - _LOCATOR.size:
            raise _NotAsWrittenError("damaged: the end of the archive doesn't fit its length")
        file.seek(end64)
        magic, _, _, _, disk, directory_disk, disk_count, count, length, start = _END64.unpack(file.read(_END64.size))
        if magic != _END64_MAGIC:
            raise _NotAsWrittenError("damaged: the end of the archive can't be read")
        end = end64
    if disk or directory_disk or disk_count != count:
        raise _NotAsWrittenError("refused: an archive in several parts")
    if start + length != end:
        raise _NotAsWrittenError("refused: there are bytes in the archive that belong to no record")
    if count > _MAX_RECORDS or length > _MAX_DIRECTORY:
        raise _NotAsWrittenError(f"refused: {count} records are more than any model has")
    return start, end, count


def _records(file: BinaryIO, directory: bytes, count: int, directory_start: int) -> dict[str, Record]:
    records: dict[str, Record] = {}
    places: list[tuple[int, int, str]] = []
    at = 0
    for _ in range(count):
        fields = _ENTRY.unpack_from(directory, at)
        magic, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length, comment_length = fields[:13]
        header = fields[16]
        at += _ENTRY.size
        raw_name = directory[at : at + name_length]
        extra = directory[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment_length
        if magic != _ENTRY_MAGIC or at > len(directory):
            raise _NotAsWrittenError("damaged: the list of its records can't be read")
        name = raw_name.decode("utf-8", "replace")
        size, packed, header = _with_zip64(extra, size, packed, header)
        is_code = name.split("/", 2)[1:2] == ["code"]  # TorchScript's sources are compressed, and are not read
        if (method or packed != size) and not is_code:
            raise _NotAsWrittenError(
                f"refused: its record {_shortened(name)} is compressed, which torch.save never does"
            )
        if flags & 1:
            raise _NotAsWrittenError(f"refused: its record {_shortened(name)} is encrypted")
        if name in records:
            raise _NotAsWrittenError(f"refused: it holds two records named {_shortened(name)}")
        offset = _data_offset(file, header, raw_name, directory_start)
        if offset + packed > directory_start:
            raise _NotAsWrittenError(f"refused: its record {_shortened(name)} reaches beyond the file's data")
        records[name] = Record(offset, packed, crc)
        places.append((header, offset + packed, name))
    if at != len(directory):
        raise _NotAsWrittenError("damaged: the list of its records is longer than it says")
    places.sort()
    for (_, end, name), (start, _, other) in pairwise(places):
        if start < end:
            raise _NotAsWrittenError(f"refused: its records {_shortened(name)} and {_shortened(other)} overlap")
    if places and places[0][0]:
        raise _NotAsWrittenError("refused: there are bytes before its first record")
    return records


def _with_zip64(extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """Return the three numbers of an entry, taking those that don't fit 32 bits from its zip64 field."""
    in_zip64 = [number == _IN_ZIP64 for number in (size, packed, header)]
    if not any(in_zip64):
        return size, packed, header
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            large_numbers = struct.unpack_from(f"<{length // 8}Q", extra[at + 4 : at + 4 + length])
            if len(large_numbers) < sum(in_zip64):
                break
            numbers = iter(large_numbers)
            size, packed, header = (next(numbers) if n == _IN_ZIP64 else n for n in (size, packed, header))
            return size, packed, header
        at += 4 + length
    raise _NotAsWrittenError("damaged: the size of a record is missing")


def _data_offset(file: BinaryIO, header: int, raw_name: bytes, limit: int) -> int:
    """Return where a record's bytes start, after checking that its local header names the same record."""
    if header + _LOCAL.size > limit:
        raise _NotAsWrittenError("refused: a record lies outside the file")
    file.seek(header)
    name_length: int
    extra_length: int
    magic, *_, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
    if magic != _LOCAL_MAGIC or file.read(name_length) != raw_name:
        raise _NotAsWrittenError(
            f"refused: the header of its record {_shortened(raw_name.decode('utf-8', 'replace'))} says something else "
            "than the archive's list"
        )
    return header + _LOCAL.size + name_length + extra_length


def _shortened(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")
