"""Moving images whose frames are pieces, drawn one over the other: the frames as they are seen, in any order.

Pillow decodes the pieces. It isn't used to compose them: what it makes of a frame of an animated PNG depends on which
ones were loaded before, it adds half-transparent pixels wrongly, and some disposals in GIF too.
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
    """What becomes of a piece's box before the next piece is drawn."""

    KEEP = 0
    BACKGROUND = 1
    PREVIOUS = 2


class Piece(NamedTuple):
    """One frame as it is stored.

    Attributes:
        box: where it is drawn: left, top, right and bottom in pixels.
        seconds: how long it is shown.
        disposal: what becomes of its box then.
        is_over: what is transparent in it leaves what was there; else it replaces all of its box.
        may_be_transparent: some of its pixels may be transparent.
        background: the colour of its box after disposal to the background, RGBA.
        data: what decoding it takes.
    """

    box: tuple[int, int, int, int]
    seconds: float
    disposal: Disposal
    is_over: bool
    may_be_transparent: bool
    background: tuple[int, int, int, int]
    data: Any


class DamagedImageError(ValueError):
    """A moving image is damaged or cut off, in words for the user."""


class ComposedImage(ABC):
    """The frames of a moving image.

    Args:
        file: at any place; it is left open.
        name, limits: of what it may take.

    Attributes:
        size: width and height in pixels.

    Raises:
        DamagedImageError: it is damaged or cut off; it says how. (Pillow may raise anything of its pixels.)
        VideoError: a piece is larger than it may be.
    """

    format: ClassVar[str]
    size: tuple[int, int]

    def __init__(self, file: BinaryIO, *, name: str, limits: Limits) -> None:
        self._file, self._name, self._limits = file, name, limits
        self._parsing = self._parse()
        self._pieces: list[Piece] = []
        self._exif = b""
        self._blank = CLEAR  # the colour of the canvas before the first piece
        self._at, self._canvas = -1, Image.new("RGBA", (1, 1))
        self._before = self._canvas  # what disposal to the previous goes back to after frame `_at`
        if self._piece(0) is None:
            raise DamagedImageError("it has no frames")

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
        start = next((k for k in range(i, 0, -1) if self._starts_anew(self._pieces[k])), 0)
        if not start <= self._at <= i:
            self._at = start - 1
            self._canvas = self._before = Image.new("RGBA", self.size, self._blank)
        while self._at < i:
            self._add_next()
        shown = self._canvas.copy()
        shown.info["duration"] = 1000 * piece.seconds
        if self._exif:
            shown.info["exif"] = self._exif
        return shown

    def _starts_anew(self, piece: Piece) -> bool:
        """Whether a frame, and what follows it, depend on no frame before."""
        covers = piece.box == (0, 0, *self.size) and not (piece.is_over and piece.may_be_transparent)
        return covers and piece.disposal != Disposal.PREVIOUS

    def _add_next(self) -> None:
        """Go from the canvas of frame `_at` to that of the next one."""
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
        if piece.is_over and piece.may_be_transparent:
            self._canvas.alpha_composite(pixels, (left, top))
        else:
            self._canvas.paste(pixels, piece.box)
        self._at += 1

    def _piece(self, i: int) -> Piece | None:
        while len(self._pieces) <= i:
            piece = next(self._parsing, None)
            if piece is None:
                return None
            self._pieces.append(piece)
        return self._pieces[i]

    @abstractmethod
    def _parse(self) -> Iterator[Piece]:
        """The pieces in their order, each read up to the beginning of the next, so that a limit can end it.

        `size` and `_blank` are known with the first.
        """

    @abstractmethod
    def _decode(self, piece: Piece) -> Image.Image:
        """A piece as RGBA; from its upper left corner on, what is in its box."""
