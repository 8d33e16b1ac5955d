"""Whether a file has all the bytes that its own header says it has.

Decoders read a file that was cut off without a word, as far as it goes. A video sampled over what is left of it would
be another video: so the three formats that say how long they are, are asked.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

_MOST_BOXES = 100_000


def missing_bytes(source: Path | BinaryIO) -> int:
    """Bytes that an MP4/MOV, AVI or Matroska/WebM file lacks at its end (0: none, or the format doesn't tell)."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return _missing(file)
    at = source.tell()
    try:
        return _missing(source)
    finally:
        source.seek(at)  # whoever reads it goes on from there


def _missing(file: BinaryIO) -> int:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(64)
    if head[4:8] == b"ftyp":
        end = _end_of_media_boxes(file, size)
    elif head[:4] == b"RIFF":
        end = _end_of_riff(head)
    elif head[:4] == b"\x1aE\xdf\xa3":
        end = _end_of_segment(file)
    else:
        end = 0
    return max(0, end - size)


def _end_of_media_boxes(file: BinaryIO, size: int) -> int:
    """End of the furthest `mdat` or `moov` box. Source: ISO/IEC 14496-12, 4.2.

    None in a fragmented file (`moof` boxes): it grows by fragments, and is whole up to where it has grown.
    """
    at = end = 0
    for _ in range(_MOST_BOXES):
        if at >= size:
            break
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            break  # 0: to the end of the file, whatever that is
        if head[4:8] == b"moof":
            return 0
        at += length
        if head[4:8] in (b"mdat", b"moov"):
            end = at
    return end


def _end_of_riff(head: bytes) -> int:
    """End of the first RIFF chunk (AVI); a length of 0 or all ones was never filled in."""
    length = int.from_bytes(head[4:8], "little")
    return 0 if length in (0, 0xFFFFFFFF) else 8 + length


def _end_of_segment(file: BinaryIO) -> int:
    """End of the Matroska segment. Source: RFC 8794, sections 4 and 5: an id and a length of variable size."""
    file.seek(4)
    header = _vint(file)
    if header is None:
        return 0
    file.seek(header, io.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    length = _vint(file)
    return 0 if length is None else file.tell() + length


def _vint(file: BinaryIO) -> int | None:
    """A number whose leading zero bits say its length; None where it is all ones (unknown) or missing."""
    head = file.read(1)
    if not head or not head[0]:
        return None
    extra = 8 - head[0].bit_length()
    rest = file.read(extra)
    value = int.from_bytes(head + rest, "big") & ((1 << 7 * (extra + 1)) - 1)
    return None if len(rest) < extra or value == (1 << 7 * (extra + 1)) - 1 else value
