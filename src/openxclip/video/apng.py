"""Animated PNG: its frames as a viewer composes them, in any order.

Pillow decodes the pieces. It isn't used to compose them: what it makes of a frame depends on which ones were loaded
before, and it adds half-transparent pixels wrongly.

Source: Portable Network Graphics (Third Edition), W3C, sections 4.10 and 11.3.6.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Generator
from typing import BinaryIO, NamedTuple

from PIL import Image

from openxclip.video.levels import with_alpha

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = (b"PLTE", b"tRNS")  # chunks before the pixels that decide what the pixels mean
_MOST_READ = 1 << 26  # bytes of one such chunk
_TO_BACKGROUND, _TO_PREVIOUS = 1, 2  # what becomes of a frame's box before the next frame
_OVER = 1
_COLOURS_WITH_ALPHA = (4, 6)


class DamagedPngError(ValueError):
    """An animated PNG is damaged or cut off, in words for the user."""


class _Piece(NamedTuple):
    """One frame as it is stored: a box of the canvas."""

    box: tuple[int, int, int, int]
    seconds: float
    dispose: int
    blend: int
    chunks: list[tuple[int, int, int]]  # kind (bytes to leave out at its start), place and length of each


class AnimatedPng:
    """The frames of an animated PNG.

    The picture that programs without animation show is no frame of it, unless the file says so.

    Args:
        file: at any place; it is left open.

    Attributes:
        size: width and height in pixels.

    Raises:
        DamagedPngError: it is damaged or cut off; it says how. (Pillow may raise anything of its pixels.)
    """

    format = "PNG"

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._parsing = self._parse()
        self._pieces: list[_Piece] = []
        self._header, self._kept, self._exif, self._count = b"", b"", b"", 0
        self._at, self._canvas = -1, Image.new("RGBA", (1, 1))
        self._before: Image.Image | None = None  # the canvas as it was before frame `_at`
        if self._piece(0) is None:
            raise DamagedPngError("it has no frames")
        width, height = struct.unpack(">II", self._header[:8])
        self.size: tuple[int, int] = (width, height)

    @property
    def orientation(self) -> int:
        """As its Exif data say; 1 is upright."""
        exif = Image.Exif()
        exif.load(self._exif)
        return int(exif.get(0x0112, 1))

    def picture(self, i: int) -> Image.Image | None:
        """Frame i as RGBA, with its milliseconds as `info["duration"]`; None if there are fewer frames."""
        piece = self._piece(i)
        if piece is None:
            return None
        start = next((k for k in range(i, 0, -1) if self._starts_anew(k)), 0)
        if not start <= self._at <= i:
            self._at, self._before = start - 1, None
            self._canvas = Image.new("RGBA", self.size)
        while self._at < i:
            self._add_next()
        shown = self._canvas.copy()
        shown.info["duration"] = 1000 * piece.seconds
        if self._exif:
            shown.info["exif"] = self._exif
        return shown

    def close(self) -> None:
        """The file is the caller's."""

    def _starts_anew(self, i: int) -> bool:
        """Whether frame i, and what follows it, depend on no frame before."""
        piece = self._pieces[i]
        is_opaque = self._header[9] not in _COLOURS_WITH_ALPHA and b"tRNS" not in self._kept
        covers = piece.box == (0, 0, *self.size) and (piece.blend != _OVER or is_opaque)
        return covers and piece.dispose != _TO_PREVIOUS

    def _add_next(self) -> None:
        """Go from the canvas of frame `_at` to that of the next one."""
        if self._at >= 0:
            last = self._pieces[self._at]
            if last.dispose == _TO_PREVIOUS and self._before is not None:
                self._canvas = self._before
            elif last.dispose in (_TO_BACKGROUND, _TO_PREVIOUS):
                self._canvas.paste((0, 0, 0, 0), last.box)
        piece = self._pieces[self._at + 1]
        self._before = None
        if piece.dispose == _TO_PREVIOUS and self._at >= 0:  # of the first frame, there is nothing to go back to
            self._before = self._canvas.copy()
        pixels = self._decode(piece)
        if piece.blend == _OVER:
            self._canvas.alpha_composite(pixels, piece.box[:2])
        else:
            self._canvas.paste(pixels, piece.box)
        self._at += 1

    def _decode(self, piece: _Piece) -> Image.Image:
        x0, y0, x1, y1 = piece.box
        header = struct.pack(">II", x1 - x0, y1 - y0) + self._header[8:]
        data = b"".join(self._read(at, length)[skipped:] for skipped, at, length in piece.chunks)
        png = _SIGNATURE + _chunk(b"IHDR", header) + self._kept + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            return with_alpha(image)

    def _piece(self, i: int) -> _Piece | None:
        while len(self._pieces) <= i:
            piece = next(self._parsing, None)
            if piece is None:
                return None
            self._pieces.append(piece)
        return self._pieces[i]

    def _parse(self) -> Generator[_Piece, None, None]:
        """The pieces in their order, each read up to the beginning of the next, so that a limit can end it."""
        at, number, sequence = len(_SIGNATURE), 0, 0
        piece: _Piece | None = None
        while True:
            self._file.seek(at)
            head = self._file.read(8)
            length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
            if kind in (b"fcTL", b"IEND", b"") and piece is not None and piece.chunks:
                yield piece
                number, piece = number + 1, None
            if kind == b"IEND" or number == self._count > 0:
                return
            if not kind:
                raise DamagedPngError("it ends in the middle")
            if kind == b"IHDR":
                self._header = self._read(at + 8, length)
            elif kind == b"acTL":
                self._count = struct.unpack(">I", self._read(at + 8, length)[:4])[0]
            elif kind == b"eXIf":
                self._exif = self._read(at + 8, length)
            elif kind in _KEPT:
                self._kept += _chunk(kind, self._read(at + 8, length))
            elif kind == b"fcTL":
                said, piece = self._control(self._read(at + 8, length))
                sequence = _next_in_order(said, sequence)
            elif kind == b"IDAT" and piece is not None:
                piece.chunks.append((0, at + 8, length))
            elif kind == b"fdAT" and piece is not None:
                self._file.seek(at + 8)
                sequence = _next_in_order(struct.unpack(">I", self._file.read(4))[0], sequence)
                piece.chunks.append((4, at + 8, length))
            at += 12 + length

    def _control(self, data: bytes) -> tuple[int, _Piece]:
        """The number and the piece, still without data, of a frame control chunk."""
        number, width, height, x, y, numerator, denominator, dispose, blend = struct.unpack(">5I2H2B", data)
        canvas = struct.unpack(">II", self._header[:8])
        if not (width and height and x + width <= canvas[0] and y + height <= canvas[1]):
            raise DamagedPngError("a frame reaches out of its picture")
        return number, _Piece((x, y, x + width, y + height), numerator / (denominator or 100), dispose, blend, [])

    def _read(self, at: int, length: int) -> bytes:
        """The data of a chunk, whose sum is checked."""
        self._file.seek(at - 4)
        data = self._file.read(4 + length)
        said = self._file.read(4)
        if len(data) < 4 + length or len(said) < 4:
            raise DamagedPngError("it ends in the middle")
        if zlib.crc32(data).to_bytes(4, "big") != said:
            raise DamagedPngError("a checksum in it is wrong")
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
        raise DamagedPngError(f"its chunk {expected} is missing")
    return expected + 1


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
