"""Animated PNG: its frames as a viewer composes them, in any order.

Source: Portable Network Graphics (Third Edition), W3C, sections 4.10 and 11.3.6.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Generator
from typing import BinaryIO

from PIL import Image

from openxclip.video.composing import CLEAR, ComposedImage, DamagedImageError, Disposal, Piece
from openxclip.video.levels import with_alpha

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = (b"PLTE", b"tRNS")  # chunks before the pixels that decide what the pixels mean
_OVER = 1
_COLOURS_WITH_ALPHA = (4, 6)

# Of the compressed pixels of a piece, the chunks: bytes to leave out at the start, place and length of each.
_Chunks = list[tuple[int, int, int]]


class AnimatedPng(ComposedImage):
    """The frames of an animated PNG.

    The picture that programs without animation show is no frame of it, unless the file says so.
    """

    format = "PNG"

    def _decode(self, piece: Piece) -> Image.Image:
        left, top, right, bottom = piece.box
        chunks: _Chunks = piece.data
        header = struct.pack(">II", right - left, bottom - top) + self._header[8:]
        data = b"".join(self._read(at, length)[skipped:] for skipped, at, length in chunks)
        png = _SIGNATURE + _chunk(b"IHDR", header) + self._kept + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            return with_alpha(image)

    def _parse(self) -> Generator[Piece, None, None]:
        at, number, sequence, count = len(_SIGNATURE), 0, 0, 0
        self._header, self._kept = b"", b""
        piece: Piece | None = None
        while True:
            self._file.seek(at)
            head = self._file.read(8)
            length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
            if kind in (b"fcTL", b"IEND", b"") and piece is not None and piece.data:
                yield piece
                number, piece = number + 1, None
            if kind == b"IEND" or number == count > 0:
                return
            if not kind:
                raise DamagedImageError("it ends in the middle")
            if kind == b"IHDR":
                self._header = self._read(at + 8, length)
                width, height = struct.unpack(">II", self._header[:8])
                self.size = (width, height)
            elif kind == b"acTL":
                count = struct.unpack(">I", self._read(at + 8, length)[:4])[0]
            elif kind == b"eXIf":
                self._exif = self._read(at + 8, length)
            elif kind in _KEPT:
                self._kept += _chunk(kind, self._read(at + 8, length))
            elif kind == b"fcTL":
                said, piece = self._control(self._read(at + 8, length))
                sequence = _next_in_order(said, sequence)
            elif kind == b"IDAT" and piece is not None:
                piece.data.append((0, at + 8, length))
            elif kind == b"fdAT" and piece is not None:
                self._file.seek(at + 8)
                sequence = _next_in_order(struct.unpack(">I", self._file.read(4))[0], sequence)
                piece.data.append((4, at + 8, length))
            at += 12 + length

    def _control(self, data: bytes) -> tuple[int, Piece]:
        """The number and the piece, still without data, of a frame control chunk."""
        number, width, height, x, y, numerator, denominator, dispose, blend = struct.unpack(">5I2H2B", data)
        if not (width and height and x + width <= self.size[0] and y + height <= self.size[1]):
            raise DamagedImageError("a frame reaches out of its picture")
        chunks: _Chunks = []
        piece = Piece(
            (x, y, x + width, y + height),
            numerator / (denominator or 100),
            Disposal(dispose) if dispose in (1, 2) else Disposal.KEEP,
            blend == _OVER,
            self._header[9] in _COLOURS_WITH_ALPHA or b"tRNS" in self._kept,
            CLEAR,
            chunks,
        )
        return number, piece

    def _read(self, at: int, length: int) -> bytes:
        """The data of a chunk, whose sum is checked."""
        self._file.seek(at - 4)
        data = self._file.read(4 + length)
        said = self._file.read(4)
        if len(data) < 4 + length or len(said) < 4:
            raise DamagedImageError("it ends in the middle")
        if zlib.crc32(data).to_bytes(4, "big") != said:
            raise DamagedImageError("a checksum in it is wrong")
        return data[4:]


def is_animated_png(file: BinaryIO, *, least: int = 1) -> bool:
    """Whether a PNG file says, before its pixels, that it has so many frames; the file is left anywhere."""
    file.seek(0)
    if file.read(8) != _SIGNATURE:
        return False
    at = len(_SIGNATURE)
    while True:
        head = file.read(8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            return False
        if head[4:] == b"acTL":
            return int.from_bytes(file.read(4), "big") >= least
        at += 12 + int.from_bytes(head[:4], "big")
        file.seek(at)


def _next_in_order(number: int, expected: int) -> int:
    if number != expected:
        raise DamagedImageError(f"its chunk {expected} is missing")
    return expected + 1


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
