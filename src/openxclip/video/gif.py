"""Read the frames of animated GIF files, composed as FFmpeg does.

Source: Graphics Interchange Format, Version 89a, sections 17 to 27.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Generator
from typing import BinaryIO, NamedTuple

from PIL import Image

from openxclip.video.boxes import read_at
from openxclip.video.composing import CLEAR, ComposedImage, DamagedImageError, Disposal, Piece
from openxclip.video.limits import NO_LIMITS

_DISPOSALS = {2: Disposal.BACKGROUND, 3: Disposal.PREVIOUS}
_MAX_SKIPPED = 1 << 16  # bytes between blocks
_HAS_TABLE, _IS_INTERLACED = 0x80, 0x40


class _Stored(NamedTuple):
    """The pixels of a piece in the file, and what decoding them takes."""

    size: tuple[int, int]
    table: bytes  # colours, RGB; b"" is a scale of greys
    clear: int | None  # the transparent colour
    is_interlaced: bool
    span: tuple[int, int]  # start and end of the compressed pixels in the file


class _Control(NamedTuple):
    """Facts about the next image, from a graphic control extension."""

    disposal: Disposal = Disposal.KEEP
    seconds: float = 0.0
    clear: int | None = None


class AnimatedGif(ComposedImage):
    """The frames of a GIF.

    As in FFmpeg, the background is the global table's background colour, or transparent after an image with a
    transparent colour. Images are clipped to the screen, which grows to hold the first image.
    """

    format = "GIF"

    def _decode(self, piece: Piece) -> Image.Image:
        """Decode a piece by making a still GIF of it."""
        stored: _Stored = piece.data
        width, height = stored.size
        self._limits.check_pixels(self._name, width=width, height=height)
        pixels = read_at(self._file, stored.span[0], stored.span[1] - stored.span[0])
        flags = _HAS_TABLE | (len(stored.table) // 3).bit_length() - 2 if stored.table else 0
        gif = b"GIF89a" + struct.pack("<HHBBB", width, height, flags, 0, 0) + stored.table
        if stored.clear is not None:
            gif += b"!\xf9\x04" + struct.pack("<BHBB", 1, 0, stored.clear, 0)
        gif += b"," + struct.pack("<HHHHB", 0, 0, width, height, _IS_INTERLACED * stored.is_interlaced)
        with Image.open(io.BytesIO(gif + pixels + b";"), formats=("GIF",)) as image:
            return image.convert("RGBA")

    def _parse(self) -> Generator[Piece, None, None]:
        self._file.seek(0)
        width, height, flags, index, _ = struct.unpack("<HHBBB", self._read(13)[6:])
        table = self._table(flags)
        colour = tuple(table[3 * index : 3 * index + 3])  # of the background
        filling = (*colour, 255) if len(colour) == 3 else CLEAR
        control, is_first, num_skipped = _Control(), True, 0
        while kind := self._file.read(1):
            if kind == b";":
                return
            if kind == b"!":
                control = self._extension(control)
            elif kind == b",":
                left, top, across, down, flags = struct.unpack("<HHHHB", self._read(9))
                own_table = self._table(flags)
                start = self._file.tell()
                self._read(1)  # the size of a code
                end = self._skip_blocks()
                background = filling if control.clear is None else CLEAR
                if is_first:
                    self.size = (max(width, left + across), max(height, top + down))
                    self._blank, is_first = background, False
                right, bottom = min(left + across, self.size[0]), min(top + down, self.size[1])
                is_interlaced = bool(flags & _IS_INTERLACED)
                yield Piece(
                    box=(min(left, self.size[0]), min(top, self.size[1]), right, bottom),
                    seconds=control.seconds,
                    disposal=control.disposal,
                    is_blended=True,
                    may_be_transparent=control.clear is not None,
                    background=background,
                    data=_Stored((across, down), own_table or table, control.clear, is_interlaced, (start, end)),
                )
                self._file.seek(end)
                control = _Control()
            else:  # viewers skip such bytes
                num_skipped += 1
                if num_skipped > _MAX_SKIPPED:
                    raise DamagedImageError("much of it is not GIF data")

    def _extension(self, control: _Control) -> _Control:
        kind = self._read(1)
        at = self._file.tell()
        if kind == b"\xf9":
            size = self._read(1)[0]
            block = self._read(size)
            if size >= 4:
                flags, hundredths, clear = struct.unpack("<BHB", block[:4])
                disposal = _DISPOSALS.get(flags >> 2 & 7, Disposal.KEEP)
                control = _Control(disposal, hundredths / 100, clear if flags & 1 else None)
        self._file.seek(at)
        self._skip_blocks()
        return control

    def _table(self, flags: int) -> bytes:
        return self._read(3 << (flags & 7) + 1) if flags & _HAS_TABLE else b""

    def _skip_blocks(self) -> int:
        """Skip a chain of blocks and return the position of its end."""
        while size := self._read(1)[0]:
            self._file.seek(size, io.SEEK_CUR)
        return self._file.tell()


def is_animated_gif(file: BinaryIO) -> bool | None:
    """Return whether a GIF has more than one image; None if it is damaged. Moves the file position."""
    try:
        return AnimatedGif(file, name="", limits=NO_LIMITS).has_frame(1)
    except DamagedImageError:
        return None
