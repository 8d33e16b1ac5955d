"""Read the frames of animated PNG files.

Source: Portable Network Graphics (Third Edition), W3C, sections 4.10 and 11.3.6.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Generator
from typing import BinaryIO

from PIL import Image

from openxclip.video.boxes import read_at
from openxclip.video.composing import CLEAR, ComposedImage, DamagedImageError, Disposal, Piece
from openxclip.video.high_depth import to_rgba
from openxclip.video.signatures import PNG

_COPIED = (b"PLTE", b"tRNS")  # chunks before the pixels that define their meaning
_OVER = 1
_COLOUR_TYPES_WITH_ALPHA = (4, 6)

# The chunks of a piece's compressed pixels: bytes to skip at the start, position and length of each
_Chunks = list[tuple[int, int, int]]


class AnimatedPng(ComposedImage):
    """The frames of an animated PNG.

    The still image for programs without animation isn't a frame, unless the file says so.
    """

    format = "PNG"

    def _decode(self, piece: Piece) -> Image.Image:
        """Decode a piece by making a still PNG of it."""
        left, top, right, bottom = piece.box
        chunks: _Chunks = piece.data
        header = struct.pack(">II", right - left, bottom - top) + self._header[8:]
        data = b"".join(self._chunk_data(at, length)[skipped:] for skipped, at, length in chunks)
        png = PNG + _chunk(b"IHDR", header) + self._copied + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            return to_rgba(image)

    def _parse(self) -> Generator[Piece, None, None]:
        at, num_done, sequence, num_frames = len(PNG), 0, 0, 0
        self._header, self._copied = b"", b""
        piece: Piece | None = None
        while True:
            head, start = read_at(self._file, at, 8), at + 8
            length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
            if kind in (b"fcTL", b"IEND", b"") and piece is not None and piece.data:
                yield piece
                num_done, piece = num_done + 1, None
            if kind == b"IEND" or num_done == num_frames > 0:
                return
            if not kind:
                raise DamagedImageError("it ends in the middle")
            if kind == b"IHDR":
                self._header = self._chunk_data(start, length)
                width, height = struct.unpack(">II", self._header[:8])
                self.size = (width, height)
            elif kind == b"acTL":
                num_frames = struct.unpack(">I", self._chunk_data(start, length)[:4])[0]
            elif kind == b"eXIf":
                self._exif = self._chunk_data(start, length)
            elif kind in _COPIED:
                self._copied += _chunk(kind, self._chunk_data(start, length))
            elif kind == b"fcTL":
                number, piece = self._control(self._chunk_data(start, length))
                sequence = _next_in_sequence(number, sequence)
            elif kind == b"IDAT" and piece is not None:
                piece.data.append((0, start, length))
            elif kind == b"fdAT" and piece is not None:
                sequence = _next_in_sequence(struct.unpack(">I", read_at(self._file, start, 4))[0], sequence)
                piece.data.append((4, start, length))
            at += 12 + length

    def _control(self, data: bytes) -> tuple[int, Piece]:
        """Return the sequence number and the piece, without data yet, of a frame control chunk."""
        number, width, height, x, y, numerator, denominator, dispose, blend = struct.unpack(">5I2H2B", data)
        if not (width and height and x + width <= self.size[0] and y + height <= self.size[1]):
            raise DamagedImageError("a frame extends beyond the picture")
        chunks: _Chunks = []
        piece = Piece(
            (x, y, x + width, y + height),
            numerator / (denominator or 100),
            Disposal(dispose) if dispose in (1, 2) else Disposal.KEEP,
            blend == _OVER,
            self._header[9] in _COLOUR_TYPES_WITH_ALPHA or b"tRNS" in self._copied,
            CLEAR,
            chunks,
        )
        return number, piece

    def _chunk_data(self, at: int, length: int) -> bytes:
        """Return the data of a chunk after checking its CRC."""
        self._file.seek(at - 4)
        data = self._read(4 + length)
        if zlib.crc32(data).to_bytes(4, "big") != self._read(4):
            raise DamagedImageError("a checksum in it is wrong")
        return data[4:]


def is_animated_png(file: BinaryIO, *, min_frames: int = 1) -> bool:
    """Return whether a PNG file announces, before its pixels, at least `min_frames` frames. Moves the file position."""
    at = len(PNG)
    if read_at(file, 0, at) != PNG:
        return False
    while True:
        head = read_at(file, at, 8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            return False
        if head[4:] == b"acTL":
            return int.from_bytes(file.read(4), "big") >= min_frames
        at += 12 + int.from_bytes(head[:4], "big")


def _next_in_sequence(number: int, expected: int) -> int:
    if number != expected:
        raise DamagedImageError(f"its chunk {expected} is missing")
    return expected + 1


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
