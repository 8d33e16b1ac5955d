"""Compare the size of a file with its header, to refuse files that were cut off.

Decoders silently read a file that was cut off as far as it goes, and sampling the rest would be sampling another video.
Some files have all their frames and still claim more bytes than they have: these are read.

Sources: ISO/IEC 14496-12; RFC 9559 (Matroska); Microsoft, "AVI RIFF File Reference" and "Advanced Systems Format";
SMPTE ST 377-1, 7.1 (MXF); Adobe, "Video File Format Specification" 10.1, E.4 and E.5 (FLV), "SWF File Format"; Mike
Melanson, "Sega FILM/CPK File Format" (its table of samples).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from openxclip.video.boxes import SEGMENT, Part, boxes, elements, elements_at, read_at, reading, size_of

_CLUSTER = b"\x1f\x43\xb6\x75"
_HEAD_BYTES = 1 << 16
_MXF_HEADER = bytes.fromhex("060e2b34020501010d0102010102")
_ASF_HEADER, _ASF_DATA = bytes.fromhex("3026b2758e66cf11"), bytes.fromhex("3626b2758e66cf11")
_FLV_KINDS = (8, 9, 18)  # audio, video, data
_LAST_TAGS, _LAST_FRAMES = 400, 12  # at most; the frame that is shown last needn't be stored last
MAY_BE_CUT = "it may be cut off"  # ends a note if the file may be incomplete
COPY_AGAIN = "Copy, download or record it again"


class CutOff(str):
    """A note that the end of a file is missing, for a user who allowed that."""

    __slots__ = ()


class Truncation(NamedTuple):
    """An error if frames are missing at the end of a file, or a note if only the header is wrong."""

    error: str | None = None
    note: str | None = None


def check_truncation(source: Path | BinaryIO, stream: Any) -> Truncation:
    """Compare a file's size with its header; `stream` is PyAV's video stream."""
    with reading(source) as file:
        size = size_of(file)
        head = read_at(file, 0, _HEAD_BYTES)
        if head.startswith(b"FLV"):
            return _check_flv(file, head, size, stream)
        end, has_all_frames = _claimed_end(file, head, size, stream)
    missing = end - size
    if missing <= 0:
        return Truncation()
    if has_all_frames:
        note = f"its header claims {missing} bytes more than the file has, but all its frames are there"
        return Truncation(note=note)
    return Truncation(f"it is cut off: the last {missing} bytes are missing. {COPY_AGAIN}")


def _claimed_end(file: BinaryIO, head: bytes, size: int, stream: Any) -> tuple[int, bool]:
    """Return where the file should end (0 if unknown), and whether all frames are there even if it ends earlier."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return _end_of_media_boxes(file, size, stream)
    if head[:4] == b"RIFF":
        return _end_of_riff(file, head, size)
    if head[:4] == b"\x1aE\xdf\xa3":
        return _end_of_segment(file, size)
    if head.startswith(_ASF_HEADER):
        return _end_of_asf(file, head), False
    if head.startswith(_MXF_HEADER):
        return footer_of_mxf(head), False
    if head.startswith(b".RMF"):
        return _end_of_real_media(file, size), False
    if head.startswith(b"FWS"):
        return int.from_bytes(head[4:8], "little"), False
    if head.startswith(b"FILM"):
        return max((entry.pos + entry.size for entry in stream.index_entries), default=0), False
    return 0, False


def _end_of_media_boxes(file: BinaryIO, size: int, stream: Any) -> tuple[int, bool]:
    """Return the end of the last `mdat` or `moov` box, and whether the file has all frames that its index lists.

    A fragmented file (`moof` boxes) grows by fragments and may end after any of them.
    """
    end = 0
    has_all_frames = False
    for box in boxes(file, 0, size):
        if box.name == b"moof":
            return 0, True
        if box.name in (b"mdat", b"moov"):
            end = box.end
        if box.name == b"moov":
            has_all_frames = box.end <= size
    if end > size and has_all_frames:
        has_all_frames = len(stream.index_entries) > 0 and all(e.pos + e.size <= size for e in stream.index_entries)
    return end, has_all_frames


def _end_of_riff(file: BinaryIO, head: bytes, size: int) -> tuple[int, bool]:
    """Return the end of the last RIFF list (an AVI above a gigabyte has several), and whether its frames are complete.

    A length of 0 or all ones was never filled in.
    """
    at = 0
    while head[:4] == b"RIFF":
        length = int.from_bytes(head[4:8], "little")
        end = at + 8 + length
        if length in (0, 0xFFFFFFFF) or end == size:
            break
        if end > size:
            return end, _has_complete_movi(file, at + 12, size)
        at = end + (end & 1)
        head = read_at(file, at, 12)
    return 0, True


def _has_complete_movi(file: BinaryIO, at: int, size: int) -> bool:
    while at + 12 <= size:
        chunk = read_at(file, at, 12)
        end = at + 8 + int.from_bytes(chunk[4:8], "little")
        if chunk[:4] == b"LIST" and chunk[8:12] == b"movi":
            return end <= size
        at = end + (end & 1)
    return False


def _end_of_segment(file: BinaryIO, size: int) -> tuple[int, bool]:
    """Return the end of the Matroska segment, and whether a complete element follows the last cluster."""
    segment = next(elements_at(file, Part(b"", 0, size), SEGMENT), None)
    if segment is None or segment.end <= size:
        return 0, True
    parts = list(elements(file, segment.start, size))
    return segment.end, bool(parts) and parts[-1].name != _CLUSTER and parts[-1].end <= size


def _end_of_asf(file: BinaryIO, head: bytes) -> int:
    """Return the end of the data object, which follows the header object; a live stream has no length there."""
    at = int.from_bytes(head[16:24], "little")
    data = read_at(file, at, 24)
    return at + int.from_bytes(data[16:24], "little") if data.startswith(_ASF_DATA) else 0


def footer_of_mxf(head: bytes) -> int:
    """Return the offset of the footer plus 1 (0 if unknown), by the header partition's pack."""
    at = 17 + (head[16] & 0x7F if head[16] & 0x80 else 0)
    footer = int.from_bytes(head[at + 24 : at + 32], "big")
    return footer + 1 if footer else 0


def _end_of_real_media(file: BinaryIO, size: int) -> int:
    """Return the end of the chunk DATA; a chunk's length counts its header, and 10 bytes more in FFmpeg's files."""
    at = 0
    while at + 8 <= size:
        chunk = read_at(file, at, 8)
        length = int.from_bytes(chunk[4:8], "big")
        if chunk[:4] == b"DATA":
            return at + length - 10
        if length < 8:
            break
        at += length
    return 0


def _check_flv(file: BinaryIO, head: bytes, size: int, stream: Any) -> Truncation:
    """Compare an FLV with its first tag, onMetaData, which may state its size or duration."""
    stated_size, stated_s = int(_number(head, b"filesize")), _number(head, b"duration")
    tolerance_s = max(min(1.0, stated_s / 10), 1.5 / float(stream.average_rate or 25))  # the last tag lasts a frame
    last_s = _last_tag_s(file, size)
    is_too_early = last_s is None or last_s < stated_s - tolerance_s
    if stated_size > size and (is_too_early or not stated_s):
        return Truncation(f"it is cut off: the last {stated_size - size} bytes are missing. {COPY_AGAIN}")
    if last_s is not None:
        if stated_s and is_too_early:
            return Truncation(note=f"its header says {stated_s:.2f} s, but it ends at {last_s:.2f} s: {MAY_BE_CUT}")
        return Truncation()
    last_s, is_cut = _walk_tags(file, head, size)
    if stated_s and is_cut and last_s < stated_s:
        return Truncation(f"it is cut off at {last_s:.2f} s of the {stated_s:.2f} s in its header. {COPY_AGAIN}")
    return Truncation()


def flv_ends_within_tag(file: BinaryIO, size: int) -> bool:
    """Return whether an FLV ends within a tag."""
    if _last_tag_s(file, size) is not None:
        return False
    return _walk_tags(file, read_at(file, 0, 9), size)[1]


def _number(head: bytes, name: bytes) -> float:
    """Read a number of onMetaData (AMF 0: a name with its length, a type byte, 8 bytes); 0 if there is none."""
    at = head.find(len(name).to_bytes(2, "big") + name + b"\0")
    value = head[at + len(name) + 3 : at + len(name) + 11]
    number = struct.unpack(">d", value)[0] if at >= 0 and len(value) == 8 else 0.0
    return float(number) if 0 < number < 1e15 else 0.0


def _last_tag_s(file: BinaryIO, size: int) -> float | None:
    """Return the latest time of the last tags in seconds; None if the file doesn't end with a complete tag."""
    last_s: float | None = None
    frames = 0
    for _ in range(_LAST_TAGS):
        if size < 13 + 15 or frames >= _LAST_FRAMES:
            break
        length = int.from_bytes(read_at(file, size - 4, 4), "big")
        at = size - 4 - length
        if at < 13:
            break
        tag = read_at(file, at, 19)
        if tag[0] & 0x1F not in _FLV_KINDS or int.from_bytes(tag[1:4], "big") + 11 != length:
            break
        last_s = max(last_s or 0.0, _time_s(tag) + _composition_s(tag))
        frames += tag[0] & 0x1F == _FLV_KINDS[1]
        size = at
    return last_s


def _composition_s(tag: bytes) -> float:
    """Return how much later than decoded a frame of H.264 or HEVC is shown (signed milliseconds in 24 bits).

    In the enhanced form of a tag, a flag bit, the packet type and a name of four letters come before.
    """
    at = 0
    if tag[0] & 0x1F == 9 and tag[11] & 0x80:
        at = 16 if tag[11] & 15 == 1 and tag[12:16] in (b"hvc1", b"avc1") else 0
    elif tag[0] & 0x1F == 9 and tag[11] & 15 == 7 and tag[12] == 1:
        at = 13
    return int.from_bytes(tag[at : at + 3], "big", signed=True) / 1000 if at else 0.0


def _walk_tags(file: BinaryIO, head: bytes, size: int) -> tuple[float, bool]:
    """Return the time of the last complete tag, and whether an incomplete one follows."""
    at, last_s = int.from_bytes(head[5:9], "big") + 4, 0.0
    while at < size:
        tag = read_at(file, at, 11)
        if len(tag) < 11:
            return last_s, True
        if tag[0] & 0x1F not in _FLV_KINDS or any(tag[8:11]):
            return last_s, False
        at += 11 + int.from_bytes(tag[1:4], "big") + 4
        if at > size:
            return last_s, True
        last_s = _time_s(tag)
    return last_s, False


def _time_s(tag: bytes) -> float:
    """Read a tag's time (milliseconds: 24 bits, then the 8 highest); live recordings may start at any time."""
    return (int.from_bytes(tag[4:7], "big") | tag[7] << 24) / 1000
