"""Find missing or changed parts of a file by counters, checksums and picture numbers.

Sources: ISO/IEC 13818-1, 2.4.3 (the continuity counter of MPEG-TS); RFC 3533, 6 (pages of Ogg); RFC 9559 and RFC 8794,
11.3.1 (Matroska's CRC-32); RFC 9043, 4.9 (FFV1's slices); ISO/IEC 13818-2, 6.3.8 and 6.3.9 (`temporal_reference`, the
number of a picture within its group in presentation order).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from openxclip.common.counting import counted
from openxclip.video.boxes import SEGMENT, Part, elements, elements_at, read_at, reading, size_of

_TS_SIZES = (188, 192, 204)
_TS_READ = 1 << 14  # packets at once
_SYNC_SEARCH = 1 << 16
_CRC_32 = b"\xbf"
_MAX_ELEMENT = 1 << 28  # bytes
_REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
_GROUP, _PICTURE = b"\0\0\1\xb8", b"\0\0\1\0"
# Share of all pictures that may be missing, but at least three. With more, or in short videos, the numbers mean
# something else.
_MAX_MISSING = 0.01
_FEWEST_PICTURES = 8


def find_lost_parts(
    source: Path | BinaryIO, container: Any, stream: Any, *, check_time: Callable[[], object]
) -> list[str]:
    """Check a container's counters and checksums; return one sentence for each kind of problem.

    Args:
        source: the file.
        container, stream: PyAV's container and video stream.
        check_time: called repeatedly; raises an error if the check takes too long.
    """
    name = str(container.format.name)
    with reading(source) as file:
        if name == "mpegts":
            return _check_ts(file, stream.id, check_time)
        if name == "ogg":
            return _check_ogg(file, check_time)
        if name.startswith("matroska"):
            return _check_matroska(file, check_time)
    return []


def _check_ts(file: BinaryIO, pid: int, check_time: Callable[[], object]) -> list[str]:
    problems, size = [], size_of(file)
    first, step = _sync(file)
    if not step:
        return []
    rest = (size - first) % step
    sync_byte = read_at(file, size - rest + (4 if step == 192 else 0), 1)
    if rest and (rest < 5 or sync_byte == b"\x47"):
        problems.append(f"it is cut off: its last transport packet has {rest} of {step} bytes")
    heads = _read_heads(file, first, step, size, pid, check_time)
    is_ours = _pids(heads) == pid
    ours = heads[is_ours]
    if num_bad := int(np.count_nonzero(ours[:, 1] & 0x80)):  # marked by the receiver
        verb = "was" if num_bad == 1 else "were"
        problems.append(f"{counted(num_bad, 'transport packet')} of its video {verb} received with errors")
    is_announced = (ours[:, 3] & 0x20 > 0) & (ours[:, 4] > 0) & (ours[:, 5] & 0x80 > 0)  # by discontinuity_indicator
    is_frame_start = ours[:, 1] & 0x40 > 0
    may_jump = is_frame_start & (is_announced | _begins_recording(heads, is_ours))
    has_payload = ours[:, 3] & 0x10 > 0  # the counter counts only packets with bytes of the stream
    steps = np.diff((ours[has_payload, 3] & 15).astype(np.int64)) % 16
    is_lost = (steps > 1) & ~may_jump[has_payload][1:]  # a step of 0 is a packet that was sent twice
    if num_lost := int(np.count_nonzero(is_lost)):
        problems.append(f"transport packets of its video are missing in {counted(num_lost, 'place')}, by their counter")
    return problems


def _begins_recording(heads: NDArray[np.uint8], is_ours: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return, for each packet of the stream, whether another recording may begin there.

    A recording begins with a table of programs, whose own counter has jumped there or is 0.
    """
    tables = np.flatnonzero(_pids(heads) == 0)
    counters = (heads[tables, 3] & 15).astype(np.int64)
    is_first_table = np.zeros(len(heads), np.bool_)
    is_first_table[tables[(np.diff(counters, prepend=-1) % 16 > 1) | (counters == 0)]] = True
    return np.asarray(np.diff(np.cumsum(is_first_table)[is_ours], prepend=0) > 0)


def _sync(file: BinaryIO) -> tuple[int, int]:
    """Return where the first packet of a transport stream begins and the distance to the next; 0 if there is none."""
    head = np.frombuffer(read_at(file, 0, _SYNC_SEARCH), np.uint8) == 0x47
    for at in np.flatnonzero(head[: 2 * _TS_SIZES[-1]]).tolist():
        for step in _TS_SIZES:
            if head[at::step][:8].all() and len(head[at::step]) > 1:
                return (at - 4 if step == 192 and at >= 4 else at), step
    return 0, 0


def _read_heads(
    file: BinaryIO, first: int, step: int, size: int, pid: int, check_time: Callable[[], object]
) -> NDArray[np.uint8]:
    """Return the first 6 bytes of each packet of a PID and of the table of programs (PID 0), in order; (N, 6)."""
    parts = [np.empty((0, 6), np.uint8)]
    offset = 4 if step == 192 else 0
    for at in range(first, size - step + 1, _TS_READ * step):
        check_time()
        data = np.frombuffer(read_at(file, at, min(_TS_READ, (size - at) // step) * step), np.uint8)
        heads = data.reshape(-1, step)[:, offset : offset + 6]
        pids = _pids(heads)
        parts.append(heads[(heads[:, 0] == 0x47) & ((pids == pid) | (pids == 0))])
    return np.concatenate(parts)


def _pids(heads: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return np.asarray((heads[:, 1] & 0x1F).astype(np.uint16) << 8 | heads[:, 2])


def _check_ogg(file: BinaryIO, check_time: Callable[[], object]) -> list[str]:
    """Check the numbers and checksums of pages, and whether the last page of each stream is marked as such."""
    size, at = size_of(file), 0
    wrong = missing = 0
    is_cut = False
    last: dict[int, int] = {}
    ended: set[int] = set()
    while at < size:
        check_time()
        head = read_at(file, at, 27)
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
        wrong += not _has_crc(page, int.from_bytes(head[22:26], "little"))
        number, stream = int.from_bytes(head[18:22], "little"), int.from_bytes(head[14:18], "little")
        if head[5] & 2 or stream in ended:
            last.pop(stream, None)  # a stream begins, or another one after its end
        missing += stream in last and number > last[stream] + 1
        last[stream] = number
        if head[5] & 4:
            ended.add(stream)
    problems = []
    if is_cut:
        problems.append("it is cut off: its last page is incomplete")
    elif last and set(last) - ended:
        problems.append("it may be cut off: it has no page that is marked as the last")
    if wrong:
        problems.append(_damaged(wrong, "page"))
    if missing:
        problems.append(f"pages are missing in {counted(missing, 'place')}, by their numbers")
    return problems


def _next_page(file: BinaryIO, at: int) -> int:
    """Return where the next page begins, or the end of the file."""
    while len(data := read_at(file, at, 1 << 16)) >= 4:
        if (begin := data.find(b"OggS")) >= 0:
            return at + begin
        at += len(data) - 3
    return size_of(file)


def _has_crc(data: bytes, expected: int) -> bool:
    """Return whether data has this CRC-32 in the variant that takes the highest bit first and starts at 0."""
    mirrored = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2) == expected


def _check_matroska(file: BinaryIO, check_time: Callable[[], object]) -> list[str]:
    size, wrong = size_of(file), 0
    for segment in elements_at(file, Part(b"", 0, size), SEGMENT):
        for part in elements(file, segment.start, min(segment.end, size)):
            check_time()
            wrong += not _is_intact(file, part)
    return [_damaged(wrong, "part")] if wrong else []


def _is_intact(file: BinaryIO, part: Part) -> bool:
    """Return whether an element's checksum, if its first child is one, matches its other children."""
    head = read_at(file, part.start, 6)
    if head[:1] != _CRC_32 or head[1:2] != b"\x84" or part.end - part.start > _MAX_ELEMENT:
        return True
    return zlib.crc32(file.read(part.end - part.start - 6)) == int.from_bytes(head[2:], "little")


def are_slices_intact(packet: bytes) -> bool:
    """Return whether the checksums of all slices of an FFV1 packet are right; every slice must have one."""
    end = len(packet)
    while end > 8:
        start = end - 8 - int.from_bytes(packet[end - 8 : end - 5], "big")
        if start < 0 or packet[end - 5] or not _has_crc(packet[start:end], 0):
            return False
        end = start
    return not end


class PictureNumbers:
    """The numbers of the pictures of an MPEG-1 or MPEG-2 stream, by group."""

    def __init__(self) -> None:
        self._groups: list[list[int]] = []

    def note(self, packet: bytes) -> None:
        """Read the number of the next packet, in decoding order."""
        picture = packet.find(_PICTURE)
        if picture < 0 or picture + 6 > len(packet):
            return
        if not self._groups or 0 <= packet.find(_GROUP) < picture:
            self._groups.append([])
        number = packet[picture + 4] << 2 | packet[picture + 5] >> 6
        if self._groups[-1][-1:] != [number]:  # else the second field of a frame
            self._groups[-1].append(number)

    def num_missing(self) -> int:
        """Return how many pictures are missing; 0 if the numbers don't follow the rule everywhere else."""
        total = 0
        for group in self._groups:
            gaps = _num_gaps(group, is_last=group is self._groups[-1])
            if gaps is None:
                return 0
            total += gaps
        pictures = sum(map(len, self._groups))
        return total if pictures >= _FEWEST_PICTURES and total <= max(3, _MAX_MISSING * pictures) else 0


def _num_gaps(numbers: list[int], *, is_last: bool) -> int | None:
    """Return how many numbers of a group are missing; None if several pictures have the same number.

    Editors leave out some of the pictures that are shown before the first coded one. A recording ends before the
    pictures that would have been coded last.
    """
    present, first, last = set(numbers), numbers[0], max(numbers)
    if len(present) < len(numbers):
        return None
    if is_last and numbers[-1] == last:
        last = max((n for n in numbers if n < last), default=last)
    return sum(n not in present for n in range(first, last))


def _damaged(number: int, noun: str) -> str:
    verb, owner = ("is", "its") if number == 1 else ("are", "their")
    return f"{counted(number, noun)} {verb} damaged, by {owner} checksum"
