"""Detect files whose end is missing even if all their frames can be read, for `check`.

Sources, besides those of `truncation`: the NUT specification (its index); ISO/IEC 13818-1, 2.5.3 (packets of MPEG-PS);
SMPTE 360M (GXF); RFC 9559 (Matroska); WTV's header as FFmpeg writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from openxclip.video.boxes import SEGMENT, boxes, elements, read_at, reading, size_of
from openxclip.video.packets import Packets
from openxclip.video.truncation import flv_ends_within_tag, footer_of_mxf

_CLUSTER = b"\x1f\x43\xb6\x75"
_NOWHERE = 1 << 62
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_NUT_INDEX = bytes.fromhex("4e58dd672f23e64e")
_GXF_PACKET, _GXF_END = bytes(4) + b"\x01", b"\xfb"
_PACK = b"\0\0\1\xba"
_SEARCHED = 1 << 20  # bytes, at the end of a program stream
_HEAD = 1 << 16
_PADDING = 64  # bytes, after the last picture
_MXF_KEY = b"\x06\x0e\x2b\x34"
_BOX_HEADER, _IVF_HEADER, _MXF_HEADER = 8, 12, 17  # bytes; of MXF, a key and the first byte of a length
_MAX_CHUNKS = 10_000_000
# Formats that consist of frames only
_BARE_FRAMES = ("yuv4mpegpipe", "dv")


def find_cut_end(source: Path | BinaryIO, container: Any, packets: Packets) -> str | None:
    """Describe what is missing at a file's end; None if the end is complete.

    Args:
        source: the file.
        container: PyAV's container.
        packets: all packets of its video.
    """
    name = str(container.format.name)
    with reading(source) as file:
        size = size_of(file)
        if name in _BARE_FRAMES:
            rest = size - packets.end_offset()
            return "it is cut off: its last frame is incomplete" if rest else None
        if name == "mjpeg":
            is_complete = b"\xff\xd9" in read_at(file, max(0, size - _PADDING), _PADDING)
            return None if is_complete else "it is cut off: its last picture is incomplete"
        if name == "nut":
            return _check_nut(file, size)
        if name == "flv":
            is_cut = flv_ends_within_tag(file, size)
            return "it is cut off: its last tag is incomplete" if is_cut else None
        if name.startswith("mov,"):
            end = _end_of_boxes(file, size, container)
        else:
            end = _ENDS[name](file, size) if name in _ENDS else size
        return f"it is cut off: the last {end - size} bytes are missing" if end > size else None


def _end_of_boxes(file: BinaryIO, size: int, container: Any) -> int:
    """Return the end of the last box; an `mdat` may claim more than the file has if all indexed samples are there.

    A fragmented file may end after any fragment, but not after its `moof` alone, nor within the header of a box.
    """
    end, claimed, is_fragmented, last = 0, 0, False, b""
    for box in boxes(file, 0, size):
        last = box.name
        is_fragmented = is_fragmented or last == b"moof"
        if last == b"mdat" and not is_fragmented:
            claimed = max(claimed, box.end)
        else:
            end = max(end, box.end)
    lacks_samples = last == b"moof" and end <= size
    if is_fragmented and (lacks_samples or 0 < size - end < _BOX_HEADER):
        end += _BOX_HEADER
    if claimed > size or lacks_samples:
        end = max([end, *(entry.pos + entry.size for stream in container.streams for entry in stream.index_entries)])
    return end


def _end_of_segment(file: BinaryIO, size: int) -> int:
    """Return the end of the last element, within clusters of unknown length too."""
    at = 0
    for _ in range(_MAX_CHUNKS):
        part = next(elements(file, at, _NOWHERE), None) if at < size else None
        if part is None:
            break
        is_open = part.end == _NOWHERE
        if is_open and part.name not in (SEGMENT, _CLUSTER):
            break
        at = part.start if is_open or part.name == SEGMENT else part.end
    return at


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """Return the end of the last chunk in the last RIFF list, even if the list claims to be longer."""
    at, end = 0, 0
    while at + 12 <= size:
        head = read_at(file, at, 12)
        if head[:4] != b"RIFF":
            break
        length = int.from_bytes(head[4:8], "little")
        inside = at + 12
        at = at + 8 + length + (length & 1) if length not in (0, 0xFFFFFFFF) else size
        while inside + 8 <= min(at, size):
            chunk = read_at(file, inside, 8)
            length = int.from_bytes(chunk[4:8], "little")
            if length in (0, 0xFFFFFFFF) and chunk[:4] == b"LIST":
                return end  # still being written
            end = inside + 8 + length
            inside = end + (end & 1)
    return end


def _end_of_asf(file: BinaryIO, size: int) -> int:
    head = read_at(file, 0, _HEAD)
    at = head.find(_ASF_FILE)
    is_live = at < 0 or head[at + 88 : at + 89] == b"\1"
    return 0 if is_live else int.from_bytes(head[at + 40 : at + 48], "little")


def _end_of_mxf(file: BinaryIO, size: int) -> int:
    """Return the end of the last key, length and value after the footer."""
    at, end = footer_of_mxf(read_at(file, 0, _HEAD)) - 1, 0
    while 0 < at < size:
        head = read_at(file, at, 25)
        if not head.startswith(_MXF_KEY[: len(head)]):
            break
        if len(head) < _MXF_HEADER:
            return at + _MXF_HEADER
        extra = head[16] & 0x7F if head[16] & 0x80 else 0
        length = int.from_bytes(head[17 : 17 + extra], "big") if extra else head[16]
        at = end = at + _MXF_HEADER + extra + length
    return end


def _end_of_ivf(file: BinaryIO, size: int) -> int:
    """Return the end of the last frame, by the lengths before all frames."""
    at = int.from_bytes(read_at(file, 6, 2), "little")
    while at < size:
        head = read_at(file, at, _IVF_HEADER)
        at += _IVF_HEADER + (int.from_bytes(head[:4], "little") if len(head) == _IVF_HEADER else 0)
    return at


def _end_of_gxf(file: BinaryIO, size: int) -> int:
    """Return where the last packet, an end marker of 16 bytes, ends or should end."""
    tail = read_at(file, max(0, size - 16), 16)
    for missing in range(16):
        if tail[missing : missing + 5] == _GXF_PACKET and tail[missing + 5 : missing + 6] in (_GXF_END, b""):
            return size + missing
    return size + 16


def _end_of_wtv(file: BinaryIO, size: int) -> int:
    return int.from_bytes(read_at(file, 0x5C, 4), "little") << 12


def _end_of_smjpeg(file: BinaryIO, size: int) -> int:
    tail = read_at(file, max(0, size - 4), 4)
    return next((size + missing for missing in range(5) if tail.endswith(b"DONE"[: 4 - missing])), size)


def _end_of_program_stream(file: BinaryIO, size: int) -> int:
    """Return the end of the last packet in the last pack."""
    begin = max(0, size - _SEARCHED)
    data = read_at(file, begin, _SEARCHED)
    at = data.rfind(_PACK)
    if at < 0:
        return 0
    if at + 14 > len(data):
        return begin + at + 14
    at += 14 + (data[at + 13] & 7) if data[at + 4] & 0xC0 == 0x40 else 12
    while at < len(data):
        if b"\0\0\1\xb9".startswith(data[at : at + 4]):
            return begin + at + 4  # the end code, or its beginning
        if data[at : at + 3] != b"\0\0\1":
            break
        if at + 6 > len(data):
            return begin + at + 6
        at += 6 + int.from_bytes(data[at + 4 : at + 6], "big")
    return begin + at


def _check_nut(file: BinaryIO, size: int) -> str | None:
    """Check for the index at the end of a finished file; the last bytes state its length."""
    length = int.from_bytes(read_at(file, max(0, size - 12), 8), "big")
    has_index = 24 <= length <= size and read_at(file, size - length, 8) == _NUT_INDEX
    return None if has_index else "it may be cut off: it has no index at its end"


_ENDS: dict[str, Callable[[BinaryIO, int], int]] = {
    "matroska,webm": _end_of_segment,
    "avi": _end_of_riff,
    "asf": _end_of_asf,
    "mxf": _end_of_mxf,
    "ivf": _end_of_ivf,
    "gxf": _end_of_gxf,
    "wtv": _end_of_wtv,
    "smjpeg": _end_of_smjpeg,
    "mpeg": _end_of_program_stream,
}
