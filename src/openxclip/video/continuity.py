"""Parts of a file that are missing or changed, by what containers write beside the frames: counters and checksums.

Sources: ISO/IEC 13818-1, 2.4.3 (the continuity counter of MPEG-TS); RFC 3533, 6 (pages of Ogg); RFC 9559 and RFC 8794,
11.3.1 (Matroska's CRC-32); RFC 9043, 4.9 (FFV1's slices).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openxclip.video.boxes import SEGMENT, Part, elements, reading, size_of

_TS_BYTES, _TS_SIZES = 188, (188, 192, 204)
_TS_READ = 1 << 14  # packets at once
_SYNC_SEARCH = 1 << 16
_CRC_32, _CLUSTER = b"\xbf", b"\x1f\x43\xb6\x75"
_MOST_ELEMENT = 1 << 28  # bytes
_REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


def found_in_file(
    source: Path | BinaryIO, container: Any, stream: Any, *, check_time: Callable[[], object]
) -> list[str]:
    """What counters and checksums of a container say is wrong, one sentence for each kind.

    Args:
        source: the file.
        container, stream: PyAV's.
        check_time: called now and then; it raises if this takes too long.
    """
    name = str(container.format.name)
    with reading(source) as file:
        if name == "mpegts":
            return _of_ts(file, stream.id, check_time)
        if name == "ogg":
            return _of_ogg(file, check_time)
        if name.startswith("matroska"):
            return _of_matroska(file, check_time)
    return []


# -- MPEG-TS -----------------------------------------------------------------------------------------------------------


class _Header(NamedTuple):
    """Of the packets of one PID, in order; arrays of one value for each.

    Attributes:
        counters: the continuity counter.
        carries: whether a packet has any of the stream's bytes; others don't count.
        is_start: a new frame begins in it.
        announced: the counter may jump here (discontinuity_indicator), or a table of programs, whose own counter has
            jumped or is 0, came just before: another recording.
        is_bad: the receiver has marked it as broken.
    """

    counters: NDArray[np.int64]
    carries: NDArray[np.bool_]
    is_start: NDArray[np.bool_]
    announced: NDArray[np.bool_]
    is_bad: NDArray[np.bool_]


def _of_ts(file: BinaryIO, pid: int, check_time: Callable[[], object]) -> list[str]:
    found, size = [], size_of(file)
    first, step = _sync(file)
    if not step:
        return []
    if rest := (size - first) % step:
        file.seek(size - rest)
        if file.read(5)[4 if step == 192 else 0 :][:1] == b"\x47" or rest < 5:
            found.append(f"it is cut off: its last transport packet has {rest} of {step} bytes")
    header = _headers(file, first, step, size, pid, check_time)
    if header.is_bad.any():
        found.append(f"{_which(int(header.is_bad.sum()), 'transport packet', 'of its video')} received with errors")
    real = header.carries
    counters, starts, announced = header.counters[real], header.is_start[real], header.announced[real]
    steps = np.diff(counters) % 16
    # the same packet may be sent twice; where a recording begins, a table of programs and the start of a frame come
    lost = (steps > 1) & ~(announced[1:] & starts[1:])
    if lost.any():
        places = _count(int(lost.sum()), "place")
        found.append(f"transport packets of its video are missing in {places}, by their counter")
    return found


def _sync(file: BinaryIO) -> tuple[int, int]:
    """Where the first packet of a transport stream begins, and how far the next is: 0 where that isn't found."""
    file.seek(0)
    head = np.frombuffer(file.read(_SYNC_SEARCH), np.uint8) == 0x47
    for at in np.flatnonzero(head[: 2 * _TS_SIZES[-1]]).tolist():
        for step in _TS_SIZES:
            if head[at::step][:8].all() and len(head[at::step]) > 1:
                return (at - 4 if step == 192 and at >= 4 else at), step
    return 0, 0


def _headers(file: BinaryIO, first: int, step: int, size: int, pid: int, check_time: Callable[[], object]) -> _Header:
    parts, table_before, last_of_table = [], False, -1
    offset = 4 if step == 192 else 0
    for at in range(first, size - step + 1, _TS_READ * step):
        check_time()
        file.seek(at)
        data = np.frombuffer(file.read(min(_TS_READ, (size - at) // step) * step), np.uint8)
        rows = data.reshape(-1, step)[:, offset : offset + 6].astype(np.int64)
        rows = rows[rows[:, 0] == 0x47]
        pids = (rows[:, 1] & 0x1F) << 8 | rows[:, 2]
        is_ours, tables = pids == pid, np.flatnonzero(pids == 0)
        numbers = rows[tables, 3] & 15
        jumps = (np.diff(numbers, prepend=last_of_table) % 16 > 1) | (numbers == 0)
        last_of_table = int(numbers[-1]) if len(numbers) else last_of_table
        is_table = np.zeros(len(rows), np.bool_)
        is_table[tables[jumps]] = True
        has_field = (rows[:, 3] & 0x20 > 0) & (rows[:, 4] > 0)
        # whether such a table came between this packet and the last of the stream
        seen = np.cumsum(is_table)[is_ours]
        new_table = np.diff(seen, prepend=-1 if table_before else 0) > 0
        table_before = bool(is_table[np.flatnonzero(is_ours)[-1] :].any()) if is_ours.any() else table_before
        mine = rows[is_ours]
        parts.append(
            (
                mine[:, 3] & 15,
                mine[:, 3] & 0x10 > 0,
                mine[:, 1] & 0x40 > 0,
                new_table | (has_field[is_ours] & (mine[:, 5] & 0x80 > 0)),
                mine[:, 1] & 0x80 > 0,
            )
        )
    empty = np.empty(0, np.int64)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [empty] * 5
    return _Header(columns[0], *(column.astype(np.bool_) for column in columns[1:]))


# -- Ogg ---------------------------------------------------------------------------------------------------------------


def _of_ogg(file: BinaryIO, check_time: Callable[[], object]) -> list[str]:
    """Pages carry a number and a checksum of all of their bytes; the last of a stream is marked."""
    size, at = size_of(file), 0
    wrong = missing = 0
    is_cut = False
    last: dict[int, int] = {}
    ended: set[int] = set()
    while at < size:
        check_time()
        file.seek(at)
        head = file.read(27)
        if head[:4] != b"OggS" or len(head) < 27:
            is_cut = is_cut or len(head) < 27
            at = _next_page(file, at + 1)
            wrong += at < size
            continue
        lengths = file.read(head[26])
        body = file.read(sum(lengths))
        at = file.tell()
        if len(lengths) < head[26] or len(body) < sum(lengths):
            is_cut = True
            break
        page = head[:22] + bytes(4) + head[26:] + lengths + body
        if not _crc_is(page, int.from_bytes(head[22:26], "little")):
            wrong += 1
        number, of = int.from_bytes(head[18:22], "little"), int.from_bytes(head[14:18], "little")
        if head[5] & 2 or of in ended:
            last.pop(of, None)  # a stream begins, or another after its end
        missing += of in last and number > last[of] + 1
        last[of] = number
        if head[5] & 4:
            ended.add(of)
    found = []
    if is_cut:
        found.append("it is cut off: its last page isn't whole")
    elif last and set(last) - ended:
        found.append("it may be cut off: it has no page that is marked as the last")
    if wrong:
        found.append(f"{_which(wrong, 'page', 'of it', now=True)} damaged, by {_its(wrong)} checksum")
    if missing:
        found.append(f"pages of it are missing in {_count(missing, 'place')}, by their numbers")
    return found


def _next_page(file: BinaryIO, at: int) -> int:
    """Where the next page begins, or the end of the file."""
    file.seek(at)
    while data := file.read(1 << 16):
        if (found := data.find(b"OggS")) >= 0:
            return at + found
        if len(data) < 4:
            break
        at += len(data) - 3
        file.seek(at)
    return size_of(file)


def _crc_is(data: bytes, due: int) -> bool:
    """Whether the CRC-32 that takes the highest bit first, and begins with 0, is this."""
    mirrored = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2) == due


# -- Matroska ----------------------------------------------------------------------------------------------------------


def _of_matroska(file: BinaryIO, check_time: Callable[[], object]) -> list[str]:
    wrong = 0
    for part in _elements_of_segment(file):
        check_time()
        wrong += not _is_whole(file, part)
    return [f"{_which(wrong, 'part', 'of it', now=True)} damaged, by {_its(wrong)} checksum"] if wrong else []


def _elements_of_segment(file: BinaryIO) -> Iterator[Part]:
    size = size_of(file)
    for part in elements(file, 0, size):
        if part.name == SEGMENT:
            yield from elements(file, part.start, min(part.end, size))


def _is_whole(file: BinaryIO, part: Part) -> bool:
    """Whether an element's checksum, if its first child is one, is that of its other children."""
    file.seek(part.start)
    head = file.read(6)
    if head[:1] != _CRC_32 or head[1:2] != b"\x84" or part.end - part.start > _MOST_ELEMENT:
        return True
    return zlib.crc32(file.read(part.end - part.start - 6)) == int.from_bytes(head[2:], "little")


# -- FFV1 --------------------------------------------------------------------------------------------------------------


def slices_are_whole(packet: bytes) -> bool:
    """Whether the checksums of all slices of an FFV1 packet, which must have them, are right."""
    end = len(packet)
    while end > 8:
        start = end - 8 - int.from_bytes(packet[end - 8 : end - 5], "big")
        if start < 0 or packet[end - 5] or not _crc_is(packet[start:end], 0):
            return False
        end = start
    return not end


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _which(number: int, what: str, of: str, *, now: bool = False) -> str:
    verb = ("is" if now else "was") if number == 1 else ("are" if now else "were")
    return f"{_count(number, what)} {of} {verb}"


def _its(number: int) -> str:
    return "its" if number == 1 else "their"
