"""Compose the frames of animated images from the pieces that their files store, in any order.

Pillow only decodes the pieces. Its own composition isn't used: its frames of an animated PNG depend on which ones were
loaded before, and it blends half-transparent pixels and disposes of some GIF frames wrongly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import Enum
from typing import Any, BinaryIO, ClassVar, NamedTuple

from PIL import Image

from openxclip.video.limits import Limits

CLEAR = (0, 0, 0, 0)


class Disposal(Enum):
    """Says what happens to a piece's box before the next piece is drawn."""

    KEEP = 0
    BACKGROUND = 1
    PREVIOUS = 2


class Piece(NamedTuple):
    """One frame as stored.

    Attributes:
        box: where it is drawn: left, top, right and bottom in pixels.
        seconds: how long it is shown.
        disposal: what happens to its box afterwards.
        is_blended: its transparent pixels leave what was there before; otherwise it replaces its whole box.
        may_be_transparent: some of its pixels may be transparent.
        background: the RGBA colour of its box after disposal to the background.
        data: what the subclass needs to decode it.
    """

    box: tuple[int, int, int, int]
    seconds: float
    disposal: Disposal
    is_blended: bool
    may_be_transparent: bool
    background: tuple[int, int, int, int]
    data: Any


class DamagedImageError(ValueError):
    """An animated image is damaged or cut off; the message says how."""


class ComposedImage(ABC):
    """The frames of an animated image.

    Args:
        file: the file, which stays open.
        name: name of the file in error messages.
        limits: bounds the size of a frame.

    Attributes:
        size: width and height in pixels.

    Raises:
        DamagedImageError: the file is damaged or cut off. (Pillow may raise any exception for damaged pixels.)
        VideoError: a piece exceeds the limits.
    """

    format: ClassVar[str]
    size: tuple[int, int]

    def __init__(self, file: BinaryIO, *, name: str, limits: Limits) -> None:
        self._file, self._name, self._limits = file, name, limits
        self._parser = self._parse()
        self._pieces: list[Piece] = []
        self._exif = b""
        self._blank = CLEAR  # colour of the canvas before the first piece
        self._at, self._canvas = -1, Image.new("RGBA", (1, 1))
        self._before = self._canvas  # the canvas to restore after frame `_at` if its disposal is PREVIOUS
        if not self.has_frame(0):
            raise DamagedImageError("it has no frames")

    def has_frame(self, i: int) -> bool:
        """Return whether there are more than `i` frames, reading no further than needed."""
        while len(self._pieces) <= i:
            piece = next(self._parser, None)
            if piece is None:
                return False
            self._pieces.append(piece)
        return True

    def picture(self, i: int) -> Image.Image | None:
        """Return frame `i` as RGBA, with its milliseconds in `info["duration"]`; None if there are fewer frames."""
        if not self.has_frame(i):
            return None
        start = next((k for k in range(i, 0, -1) if self._is_independent(self._pieces[k])), 0)
        if not start <= self._at <= i:
            self._at = start - 1
            self._canvas = self._before = Image.new("RGBA", self.size, self._blank)
        while self._at < i:
            self._draw_next()
        shown = self._canvas.copy()
        shown.info["duration"] = 1000 * self._pieces[i].seconds
        if self._exif:
            shown.info["exif"] = self._exif
        return shown

    def _is_independent(self, piece: Piece) -> bool:
        """Return whether this frame and later ones don't depend on earlier frames."""
        covers = piece.box == (0, 0, *self.size) and not (piece.is_blended and piece.may_be_transparent)
        return covers and piece.disposal != Disposal.PREVIOUS

    def _draw_next(self) -> None:
        """Draw the next frame over the canvas of frame `_at`."""
        if self._at >= 0:
            last = self._pieces[self._at]
            if last.disposal == Disposal.PREVIOUS:
                self._canvas = self._before
            elif last.disposal == Disposal.BACKGROUND:
                self._canvas.paste(last.background, last.box)
        piece = self._pieces[self._at + 1]
        if piece.disposal == Disposal.PREVIOUS:
            self._before = self._canvas.copy()
        left, top, right, bottom = piece.box
        pixels = self._decode(piece).crop((0, 0, right - left, bottom - top))
        if piece.is_blended and piece.may_be_transparent:
            self._canvas.alpha_composite(pixels, (left, top))
        else:
            self._canvas.paste(pixels, piece.box)
        self._at += 1

    def _read(self, size: int) -> bytes:
        """Read exactly `size` bytes."""
        data = self._file.read(size)
        if len(data) < size:
            raise DamagedImageError("it ends in the middle")
        return data

    @abstractmethod
    def _parse(self) -> Iterator[Piece]:
        """Yield the pieces in order, reading no further than the end of each, so that a limit can stop it.

        Sets `size` and `_blank` before the first piece.
        """

    @abstractmethod
    def _decode(self, piece: Piece) -> Image.Image:
        """Return a piece as RGBA, to be drawn at the upper left corner of its box."""
