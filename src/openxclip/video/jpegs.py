"""Whether a JPEG file is one picture, or a stream of them: Motion JPEG without a container.

Source: ITU-T T.81, annex B (markers); CIPA DC-007 (files with several pictures of other sizes and purposes).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from openxclip.video.boxes import reading

_START, _END, _SCAN, _APP2 = 0xD8, 0xD9, 0xDA, 0xE2
_SIZES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # frame headers
_JPEG_LS = b"\xff\xd8\xff\xf7"
_MOST_BYTES = 128 << 20  # of the first picture


def begins_with_jpeg(source: Path | BinaryIO) -> bool:
    """Whether a file begins as a JPEG does, which is not JPEG-LS."""
    with reading(source) as file:
        file.seek(0)
        head = file.read(4)
    return head.startswith(b"\xff\xd8\xff") and head != _JPEG_LS


def is_stream(source: Path | BinaryIO) -> bool:
    """Whether a JPEG is followed, right behind it, by another of the same size; JPEG-LS, too, counts as a stream.

    Photos with a preview, a gain map or a film behind them are none: they say so (MPF), or the sizes differ.
    """
    with reading(source) as file:
        file.seek(0)
        data = file.read(_MOST_BYTES)
    if data.startswith(_JPEG_LS):
        return True  # of which Pillow reads none
    size, end = _picture(data, 0)
    at = end
    while data[at : at + 1] in (b"\0", b"\xff") and data[at : at + 2] != b"\xff\xd8":
        at += 1  # filling
    if size is None or data[at : at + 3] != b"\xff\xd8\xff":
        return False
    return _picture(data, at)[0] == size


def _picture(data: bytes, at: int) -> tuple[bytes | None, int]:
    """Height and width as they are coded (None in a photo that announces others), and where the picture ends."""
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
            if marker in _SIZES:
                size = data[at + 5 : at + 9]
            at += 2 + length
            if marker == _SCAN:  # coded data follow, in which a marker is any but 00 and restarts
                at = _after_scan(data, at)
    return size, len(data)


def _after_scan(data: bytes, at: int) -> int:
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            return len(data)
        if data[at + 1] and not 0xD0 <= data[at + 1] <= 0xD7:
            return at
        at += 2
