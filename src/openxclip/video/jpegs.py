"""Distinguish a single JPEG picture from Motion JPEG without a container, which is a stream of pictures.

Source: ITU-T T.81, annex B (markers); CIPA DC-007 (files with several pictures of other sizes and purposes).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from openxclip.video.boxes import read_at, reading
from openxclip.video.signatures import JPEG

_START, _END, _SCAN, _APP2 = 0xD8, 0xD9, 0xDA, 0xE2
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_JPEG_LS = JPEG + b"\xf7"
_MARKER_IN_SCAN = re.compile(rb"\xff[^\0\xd0-\xd7]")  # in coded data, FF 00 and restart markers don't count
_MAX_BYTES = 128 << 20  # read to find the end of the first picture


def begins_with_jpeg(source: Path | BinaryIO) -> bool:
    """Return whether a file begins with a JPEG picture other than JPEG-LS."""
    with reading(source) as file:
        head = read_at(file, 0, 4)
    return head.startswith(JPEG) and head != _JPEG_LS


def is_motion_jpeg(source: Path | BinaryIO) -> bool:
    """Return whether a JPEG is followed by another of the same size; JPEG-LS counts too, since Pillow can't read it.

    A photo followed by a preview, a gain map or a video doesn't count: its MPF marker says so, or the sizes differ.
    """
    with reading(source) as file:
        data = read_at(file, 0, _MAX_BYTES)
    if data.startswith(_JPEG_LS):
        return True
    size, at = _parse_picture(data, 0)
    while data[at : at + 1] in (b"\0", b"\xff") and data[at : at + 2] != b"\xff\xd8":
        at += 1  # padding
    if size is None or data[at : at + 3] != JPEG:
        return False
    return _parse_picture(data, at)[0] == size


def _parse_picture(data: bytes, at: int) -> tuple[bytes | None, int]:
    """Return the coded height and width (None if an MPF marker announces other pictures), and the picture's end."""
    size = None
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return size, at
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == _END:
            return size, at + 2
        elif marker == _START or 0xD0 <= marker <= 0xD7:
            at += 2
        else:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == _APP2 and data[at + 4 : at + 8] == b"MPF\0":
                return None, len(data)
            if marker in _FRAME_HEADERS:
                size = data[at + 5 : at + 9]
            at += 2 + length
            if marker == _SCAN:
                end_of_scan = _MARKER_IN_SCAN.search(data, at)
                at = end_of_scan.start() if end_of_scan else len(data)
    return size, len(data)
