"""Convert decoded frames to RGB as a viewer would see them.

YCbCr becomes RGB as in FFmpeg (swscale, with PyAV's settings), so that frames equal those of other readers built on it.
This module adds what swscale leaves out: HDR, limited-range grey, transparency and orientation.

Source: ISO/IEC 14496-12 (display matrix); `tone_mapping` names those for HDR.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.video.colour_codes import BT709, BT2020, DISPLAY_P3, HLG, LIMITED, PQ
from openxclip.video.frames import rgb_bytes
from openxclip.video.orientation import Turn, turn_of
from openxclip.video.swscale import FrameConverter
from openxclip.video.tone_mapping import PRIMARIES, STEPS, YCbCr, tone_map

SHOWN_ON_WHITE = "transparent parts are shown on white"

_GAMUTS = {BT709: "BT.709", BT2020: "BT.2020", DISPLAY_P3: "Display P3"}
_CRASHES = frozenset({"yaf32le", "yaf32be"})  # swscale of FFmpeg 8 ends the process over these


class RGBConverter:
    """Converts the frames of one video to RGB pictures as shown.

    - The frame names the matrix (BT.601, BT.709, BT.2020, FCC, SMPTE 240M) and the range. As in FFmpeg, an unnamed
      matrix is BT.601 and an unnamed range is limited (full for grey, RGB and `yuvj…`). Frames equal PyAV's
      `frame.to_ndarray(format="rgb24")`. Without chroma subsampling they are within 1.5 levels of the standards'
      formulas; with it, FFmpeg takes the nearest chroma sample and truncates, which makes up to 3 levels at 8 bits and
      4 above.
    - HDR (PQ, HLG) is shown as on an SDR display: BT.2390's roll-off brings highlights of up to 1000 cd/m² below the
      reference white of 203 cd/m², which is SDR's peak; colours are converted to BT.709.
    - SDR in BT.2020 or Display P3 keeps its numbers, as with other readers; a player that manages colours shows it
      a little more saturated.
    - Transparency is shown on white.
    - The display matrix is applied if it rotates by multiples of 90° or mirrors. All frames are rotated like the first,
      as in players, even if only some have a matrix (SEI messages come with key frames only).
    - Frames of another size are scaled to the size of the first (bicubic), as FFmpeg's command does.
    - Fields of interlaced frames stay woven, and pixels that are not square stay as stored.

    Args:
        name: name of the video in error messages.
        pixel_aspect: a pixel's width over its height; None or 0 if unknown.

    Attributes:
        notes: notes for the user about the frames converted so far, each once.
    """

    def __init__(self, *, name: str = "video", pixel_aspect: Fraction | None = None) -> None:
        self._name = name
        self._size: tuple[int, int] | None = None
        self._first_turn: Turn | None = None
        self._notes: dict[str, None] = {}
        self._converter = FrameConverter(self._notes.setdefault)
        if pixel_aspect and pixel_aspect != 1:
            ratio = f"{pixel_aspect.numerator}:{pixel_aspect.denominator}"
            self._note(f"pixels are not square ({ratio}): frames are left as stored, not stretched")

    @property
    def notes(self) -> tuple[str, ...]:  # noqa: D102 (described above)
        return tuple(self._notes)

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Convert a frame.

        Returns:
            Contiguous RGB of shape (H, W, 3), where H and W are the size of the first frame as shown.

        Raises:
            VideoError: the frame's pixel format cannot be converted.
        """
        if frame.format.name in _CRASHES:
            raise self._unknown_format(frame)
        turn = self._turn_of_video(frame)
        shown = (frame.width, frame.height) if turn.transposed else (frame.height, frame.width)
        if self._size is None:
            self._size = shown
        elif shown != self._size:
            self._note("frames differ in size: all are scaled to the size of the first")
        if frame.interlaced_frame:
            self._note("interlaced: both fields of a frame are shown together")
        height, width = self._size[::-1] if turn.transposed else self._size
        try:
            picture = self._to_rgb(frame, width, height)
        except MemoryError:  # FFmpeg's too, which says nothing about the pixels
            raise
        except (av.error.FFmpegError, OSError, ValueError):
            raise self._unknown_format(frame) from None
        return rgb_bytes(turn.apply(picture))

    def _unknown_format(self, frame: av.VideoFrame) -> VideoError:
        kind = frame.format.name
        return VideoError(self._name, f"its pixel format {kind} is not supported: convert it, e.g. to H.264")

    def _note(self, text: str) -> None:
        self._notes.setdefault(text)

    def _turn_of_video(self, frame: av.VideoFrame) -> Turn:
        turn = turn_of(frame)
        if turn is None:
            self._note("its rotation is not a multiple of 90°: frames are left as stored")
            turn = Turn()
        if self._first_turn is None:
            self._first_turn = turn
        elif turn != self._first_turn:
            self._note("frames differ in rotation: all are turned as the first")
        return self._first_turn

    def _to_rgb(self, frame: av.VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        """Return the picture in this size, not yet rotated."""
        has_alpha, grey_bits = _pixel_kind(frame.format.name)
        is_limited_grey = grey_bits > 0 and frame.color_range == LIMITED
        is_hdr = frame.color_trc in (PQ, HLG)
        if not is_hdr and frame.color_primaries in (BT2020, DISPLAY_P3):
            self._note(f"wide gamut ({_GAMUTS[frame.color_primaries]}): colours are left as stored")
        picture: NDArray[np.uint8]
        if is_hdr:
            picture = self._tone_mapped(frame, width, height, grey_bits if is_limited_grey else 0)
        elif is_limited_grey:
            levels = self._full_range_grey(frame, width, height, grey_bits)
            grey = ((levels.astype(np.uint32) * 255 + STEPS // 2) // STEPS).astype(np.uint8)
            picture = np.repeat(grey[..., None], 3, axis=2)
        elif has_alpha:
            rgba = self._converter.to_array(frame, "rgba", width, height)
            return self._on_white(rgba[..., :3], rgba[..., 3])
        else:
            picture = self._converter.to_array(frame, "rgb24", width, height)
        if has_alpha:
            picture = self._on_white(picture, self._converter.to_array(frame, "rgba", width, height)[..., 3])
        return picture

    def _tone_mapped(self, frame: av.VideoFrame, width: int, height: int, limited_grey_bits: int) -> NDArray[np.uint8]:
        is_pq = frame.color_trc == PQ
        primaries = frame.color_primaries if frame.color_primaries in PRIMARIES else BT2020
        ycbcr: YCbCr | None = None
        if limited_grey_bits:
            channels = [self._full_range_grey(frame, width, height, limited_grey_bits)] * 3
        elif frame.format.is_rgb:
            channels = list(np.moveaxis(self._converter.to_array(frame, "rgb48le", width, height), -1, 0))
        else:
            channels, ycbcr = self._converter.to_ycbcr16(frame, width, height)
        self._note(f"HDR ({'PQ' if is_pq else 'HLG'}, {_GAMUTS[primaries]}) is tone-mapped to SDR BT.709")
        return tone_map(channels, ycbcr, is_pq=is_pq, primaries=primaries)

    def _full_range_grey(self, frame: av.VideoFrame, width: int, height: int, bits: int) -> NDArray[np.uint16]:
        """Return the 16-bit grey levels of a limited-range frame of `bits` bits, (H, W)."""
        levels: NDArray[np.uint16] = self._converter.to_array(frame, "gray16le", width, height)
        return np.take(_limited_grey_table(bits), levels)

    def _on_white(self, picture: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if alpha.min() == 255:
            return picture
        self._note(SHOWN_ON_WHITE)
        cover = alpha.astype(np.uint16)
        white = (255 - cover) * 255 + 128
        blended = np.empty(picture.shape, dtype=np.uint8)
        for c in range(3):
            mix = picture[..., c] * cover + white
            blended[..., c] = (mix + (mix >> 8)) >> 8  # divides by 255 and rounds
        return blended


@lru_cache(maxsize=64)
def _pixel_kind(pixel_format: str) -> tuple[bool, int]:
    """Return whether a pixel format can be transparent, and its bits if it is integer grey, else 0."""
    layout = av.VideoFormat(pixel_format)
    has_alpha = layout.has_palette or any(c.is_alpha for c in layout.components)
    is_grey = pixel_format.startswith(("gray", "ya8", "ya16")) and "f" not in pixel_format
    return has_alpha, layout.components[0].bits if is_grey else 0


@lru_cache(maxsize=8)
def _limited_grey_table(bits: int) -> NDArray[np.uint16]:
    """Return full-range levels for 16-bit grey, over which FFmpeg spreads limited codes of `bits` bits."""
    code = np.arange(65536) / STEPS * (2**bits - 1) / 2 ** (bits - 8)
    table: NDArray[np.uint16] = np.rint(np.clip((code - 16) / 219, 0, 1) * STEPS).astype(np.uint16)
    return table
