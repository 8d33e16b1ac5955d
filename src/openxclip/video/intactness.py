"""Whether a file has all the bytes that its own header says it has.

Decoders read a file that was cut off without a word, as far as it goes. A video sampled over what is left of it would
be another video: so the three formats that say how long they are, are asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from openxclip.video.boxes import SEGMENT, boxes, elements, reading, size_of


def missing_bytes(source: Path | BinaryIO) -> int:
    """Bytes that an MP4/MOV, AVI or Matroska/WebM file lacks at its end (0: none, or the format doesn't tell)."""
    with reading(source) as file:
        return _missing(file)


def _missing(file: BinaryIO) -> int:
    size = size_of(file)
    file.seek(0)
    head = file.read(64)
    if head[4:8] == b"ftyp":
        end = _end_of_media_boxes(file, size)
    elif head[:4] == b"RIFF":
        end = _end_of_riff(head)
    elif head[:4] == b"\x1aE\xdf\xa3":
        end = _end_of_segment(file, size)
    else:
        end = 0
    return max(0, end - size)


def _end_of_media_boxes(file: BinaryIO, size: int) -> int:
    """End of the furthest `mdat` or `moov` box.

    None in a fragmented file (`moof` boxes): it grows by fragments, and is whole up to where it has grown.
    """
    end = 0
    for box in boxes(file, 0, size):
        if box.name == b"moof":
            return 0
        if box.name in (b"mdat", b"moov"):
            end = box.end
    return end


def _end_of_riff(head: bytes) -> int:
    """End of the first RIFF chunk (AVI); a length of 0 or all ones was never filled in."""
    length = int.from_bytes(head[4:8], "little")
    return 0 if length in (0, 0xFFFFFFFF) else 8 + length


def _end_of_segment(file: BinaryIO, size: int) -> int:
    """End of the Matroska segment; the end of the file where its length is unknown."""
    return next((part.end for part in elements(file, 0, size) if part.name == SEGMENT), 0)
