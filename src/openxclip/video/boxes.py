"""Read the parts of files: boxes of MP4 and its relatives, elements of Matroska.

Sources: ISO/IEC 14496-12, 4.2 (boxes); RFC 8794, sections 4 and 5 (an id and a length, both of variable size).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

SEGMENT = b"\x18\x53\x80\x67"  # the element that holds a Matroska file

_MAX_PARTS = 100_000  # on one level; no real file has more


class Part(NamedTuple):
    """A box or an element: its name, and where its content begins and, according to its length, ends."""

    name: bytes
    start: int
    end: int


@contextmanager
def reading(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """Open a path, or yield an open file and restore its position afterwards."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
        return
    at = source.tell()
    try:
        yield source
    finally:
        source.seek(at)


def size_of(file: BinaryIO) -> int:
    """Return the size of a file in bytes, and leave the file at its end."""
    return file.seek(0, io.SEEK_END)


def read_at(file: BinaryIO, at: int, size: int = -1) -> bytes:
    """Return up to `size` bytes of a file from position `at` on; by default, all of them."""
    file.seek(at)
    return file.read(size)


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[Part]:
    """Yield the boxes that begin between two offsets. A box may claim to end later; a length of 0 means `end`."""
    at = start
    for _ in range(_MAX_PARTS):
        if at + 8 > end:
            return
        head = read_at(file, at, 16)
        if len(head) < 8:
            return
        length, size = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, size = int.from_bytes(head[8:16], "big"), 16
        if length == 0:
            length = end - at
        if length < size:
            return
        yield Part(head[4:8], at + size, at + length)
        at += length


def boxes_at(file: BinaryIO, within: Part, *path: bytes) -> Iterator[Part]:
    """Yield the boxes at the end of a path of names, within a box that contains only boxes."""
    return _parts_at(boxes, file, within, path)


def content(file: BinaryIO, part: Part, max_bytes: int = 4096) -> bytes:
    """Return the first bytes of a box or element, at most `max_bytes`."""
    return read_at(file, part.start, min(max_bytes, max(0, part.end - part.start)))


def mp4_tracks(file: BinaryIO) -> Iterator[Part]:
    """Yield the boxes `trak` of an MP4."""
    yield from boxes_at(file, Part(b"", 0, size_of(file)), b"moov", b"trak")


def track_id(file: BinaryIO, track: Part) -> int:
    """Return the number of an MP4 track, by its box `trak`; 0 if it has none."""
    for tkhd in boxes_at(file, track, b"tkhd"):
        head = content(file, tkhd, 24)
        at = 20 if head[:1] == b"\1" else 12
        return int.from_bytes(head[at : at + 4], "big")
    return 0


def boxes_of_track(file: BinaryIO, number: int, *path: bytes) -> Iterator[Part]:
    """Yield the boxes at the end of a path of names, within the MP4 track of this number."""
    for track in mp4_tracks(file):
        if track_id(file, track) == number:
            yield from boxes_at(file, track, *path)


def elements(file: BinaryIO, start: int, end: int) -> Iterator[Part]:
    """Yield the Matroska elements that begin between two offsets; an element of unknown length ends at `end`."""
    at = start
    for _ in range(_MAX_PARTS):
        if at >= end:
            return
        first = read_at(file, at, 1)
        if not first or not first[0] >> 4:
            return
        name = first + file.read(4 - (first[0] >> 4).bit_length())
        is_known, length = _length(file)
        if length is None:
            return
        begin = file.tell()
        at = begin + length if is_known else end
        yield Part(name, begin, at)


def elements_at(file: BinaryIO, within: Part, *path: bytes) -> Iterator[Part]:
    """Yield the elements at the end of a path of ids."""
    return _parts_at(elements, file, within, path)


def _parts_at(
    parts: Callable[[BinaryIO, int, int], Iterator[Part]], file: BinaryIO, within: Part, path: tuple[bytes, ...]
) -> Iterator[Part]:
    for part in parts(file, within.start, within.end):
        if part.name == path[0]:
            if len(path) == 1:
                yield part
            else:
                yield from _parts_at(parts, file, part, path[1:])


def _length(file: BinaryIO) -> tuple[bool, int | None]:
    """Read a length of variable size; return whether it is known (not all ones), and its value."""
    head = file.read(1)
    if not head or not head[0]:
        return False, None
    extra = 8 - head[0].bit_length()
    rest = file.read(extra)
    if len(rest) < extra:
        return False, None
    all_ones = (1 << 7 * (extra + 1)) - 1
    value = int.from_bytes(head + rest, "big") & all_ones
    return value != all_ones, value
