"""From a decoded frame to the RGB picture that a viewer would see.

YCbCr becomes RGB as FFmpeg does it (swscale, with PyAV's settings), so that frames equal those of other readers that
are built on it. What swscale leaves undone is done here: HDR, limited-range grey, transparency, turning.

Source: ISO/IEC 14496-12 (display matrix); those of HDR are named in `tone_mapping`.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from openxclip.common.forking import leak, watch_forks
from openxclip.errors import VideoError
from openxclip.video.frames import rgb_bytes
from openxclip.video.orientation import Turn, turn_of
from openxclip.video.tone_mapping import PRIMARIES, STEPS, YCbCr, tone_map

SHOWN_ON_WHITE = "transparent parts are shown on white"

# AVColorSpace, AVColorTransferCharacteristic, AVColorPrimaries, AVColorRange: the numbers of ITU-T H.273
_FFMPEG_KNOWS = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
_MATRIX_NAMES = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    12: "derived from its primaries",
    13: "derived from its primaries, with constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-R",
    17: "YCgCo-R",
}
_UNSPECIFIED, _BT709, _BT601, _BT2020, _DISPLAY_P3 = 2, 1, 5, 9, 12
_GAMUTS = {_BT709: "BT.709", _BT2020: "BT.2020", _DISPLAY_P3: "Display P3"}
_PQ, _HLG = 16, 18
_LIMITED, _FULL = 1, 2
_LUMA = {_BT709: (0.2126, 0.0722), _BT601: (0.299, 0.114), _BT2020: (0.2627, 0.0593)}  # Kr, Kb
# swscale of FFmpeg 8 gives a few samples at the edges of its threads' slices other values from call to call
_DIFFERS_BY_THREADS = frozenset({"gray16le", "yuv444p16le"})
_CRASHES = frozenset({"yaf32le", "yaf32be"})  # swscale of FFmpeg 8 ends the process over these


class RGBConverter:
    """Makes RGB pictures, as shown, of the frames of one video.

    - The matrix (BT.601, BT.709, BT.2020, FCC, SMPTE 240M) and the range are those that the frame names. A matrix that
      is not named is BT.601 and a range that is not named is limited (full for grey, RGB and `yuvj…`), as in FFmpeg.
      Frames equal PyAV's `frame.to_ndarray(format="rgb24")`. Where chroma is not subsampled they are within 1.5 levels
      of the standards' formulas; where it is, FFmpeg takes chroma from the nearest sample and truncates, which makes up
      to 3 levels at 8 bits and 4 above.
    - HDR (PQ, HLG) is shown as on an SDR display: BT.2390's roll-off brings highlights of up to 1000 cd/m² below the
      reference white of 203 cd/m², which is SDR's peak; colours are brought into BT.709.
    - SDR in BT.2020 or Display P3 keeps its numbers, as with other readers; a player that manages colours shows it
      a little more saturated.
    - What is transparent is shown on white.
    - The display matrix is followed where it turns by quarters or mirrors. All frames are turned as the first is: a
      matrix that only some frames have (an SEI message comes with key frames) holds for the video, as in players.
    - Frames have the size of the first: one of another size is scaled (bicubic), as FFmpeg's command does.
    - Fields of interlaced frames stay woven, and pixels that are not square stay as stored.

    Attributes:
        notes: what of this a user should know of the frames converted so far, each once.
    """

    def __init__(self, *, name: str = "video", pixel_aspect: Fraction | None = None) -> None:
        """`name` is for errors; `pixel_aspect` is a pixel's width over its height, None or 0 where unknown."""
        self._name = name
        self._size: tuple[int, int] | None = None
        self._first_turn: Turn | None = None
        self._reformatter = VideoReformatter()
        self._notes: dict[str, None] = {}
        watch_forks(self)
        if pixel_aspect and pixel_aspect != 1:
            ratio = f"{pixel_aspect.numerator}:{pixel_aspect.denominator}"
            self._note(f"pixels are not square ({ratio}): frames are left as stored, not stretched")

    @property
    def notes(self) -> tuple[str, ...]:  # noqa: D102 (described above)
        return tuple(self._notes)

    def after_fork(self) -> None:
        """See `forking`: swscale has threads too."""
        leak(self._reformatter)

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """The picture of a frame.

        Returns:
            RGB of shape (H, W, 3), with its bytes in order; H and W are those of the first frame converted, as shown.

        Raises:
            VideoError: the frame's pixel format cannot be converted.
        """
        if frame.format.name in _CRASHES:
            raise self._cannot(frame)
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
            picture = self._picture(frame, width, height)
        except MemoryError:  # also FFmpeg's: not the fault of the pixels
            raise
        except (av.error.FFmpegError, OSError, ValueError):
            raise self._cannot(frame) from None
        return rgb_bytes(turn.apply(picture))

    def _cannot(self, frame: av.VideoFrame) -> VideoError:
        kind = frame.format.name
        return VideoError(self._name, f"its pixels are of a kind not known here ({kind}): convert it, e.g. to H.264")

    def _note(self, text: str) -> None:
        self._notes.setdefault(text)

    # -- colour ------------------------------------------------------------------------------------------------------

    def _picture(self, frame: av.VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8]
        has_alpha, grey_bits = _kind(frame.format.name)
        limited_grey = grey_bits > 0 and frame.color_range == _LIMITED
        hdr = frame.color_trc in (_PQ, _HLG)
        if not hdr and frame.color_primaries in (_BT2020, _DISPLAY_P3):
            self._note(f"wide gamut ({_GAMUTS[frame.color_primaries]}): colours are left as stored")
        if not hdr and not limited_grey:
            picture = self._reformat(frame, "rgba" if has_alpha else "rgb24", width, height)
            return self._on_white(picture[..., :3], picture[..., 3]) if has_alpha else picture
        ycbcr: YCbCr | None = None
        if limited_grey:
            channels = [np.take(_limited_grey_table(grey_bits), self._reformat(frame, "gray16le", width, height))] * 3
        elif frame.format.is_rgb:
            channels = list(np.moveaxis(self._reformat(frame, "rgb48le", width, height), -1, 0))
        else:
            channels, ycbcr = self._deep_ycbcr(frame, width, height)
        if hdr:
            is_pq = frame.color_trc == _PQ
            primaries = frame.color_primaries if frame.color_primaries in PRIMARIES else _BT2020
            self._note(f"HDR ({'PQ' if is_pq else 'HLG'}, {_GAMUTS[primaries]}) is tone-mapped to SDR BT.709")
            picture = tone_map(channels, ycbcr, pq=is_pq, primaries=primaries)
        else:
            grey = ((channels[0].astype(np.uint32) * 255 + STEPS // 2) // STEPS).astype(np.uint8)
            picture = np.repeat(grey[..., None], 3, axis=2)
        if has_alpha:
            picture = self._on_white(picture, self._reformat(frame, "rgba", width, height)[..., 3])
        return picture

    def _reformat(self, frame: av.VideoFrame, pixel_format: str, width: int, height: int) -> Any:
        return self._converted(frame, pixel_format, width, height).to_ndarray(channel_last=True)

    def _converted(
        self, frame: av.VideoFrame, pixel_format: str, width: int, height: int, **colours: Any
    ) -> av.VideoFrame:
        is_same_size = (frame.width, frame.height) == (width, height)
        matrix, color_range = frame.colorspace, frame.color_range
        try:
            frame.colorspace = self._matrix(frame)
            if color_range > _FULL:
                frame.color_range = _LIMITED
            return self._reformatter.reformat(
                frame,
                width=width,
                height=height,
                format=pixel_format,
                interpolation=Interpolation.BILINEAR if is_same_size else Interpolation.BICUBIC,
                threads=1 if pixel_format in _DIFFERS_BY_THREADS else 0,
                **colours,
            )
        finally:
            frame.colorspace, frame.color_range = matrix, color_range

    def _deep_ycbcr(self, frame: av.VideoFrame, width: int, height: int) -> tuple[list[NDArray[np.uint16]], YCbCr]:
        """YCbCr codes of 16 bits, (H, W) each, and what they mean: swscale's RGB of 16 bits is 0.4 % too dark."""
        is_full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
        color_range = ColorRange.JPEG if is_full else ColorRange.MPEG
        kr, kb = _LUMA.get(self._matrix(frame), _LUMA[_BT601])
        # the same range on both sides: nothing is converted
        deep = self._converted(
            frame, "yuv444p16le", width, height, src_color_range=color_range, dst_color_range=color_range
        )
        # views of the planes: to_ndarray would copy and interleave them
        planes = [np.frombuffer(memoryview(p), "<u2").reshape(height, -1)[:, :width] for p in deep.planes]
        return planes, YCbCr.named(kr, kb, is_full=is_full)

    def _matrix(self, frame: av.VideoFrame) -> int:
        """The frame's matrix, or the nearest of those that FFmpeg knows."""
        matrix, primaries = frame.colorspace, frame.color_primaries
        if matrix == _UNSPECIFIED and frame.color_trc in (_PQ, _HLG):
            return _BT2020  # the only one of BT.2100 that is a matrix
        if matrix in _FFMPEG_KNOWS or frame.format.is_rgb:
            return int(matrix)
        nearest, named = {
            _BT709: (_BT709, "BT.709"),
            _BT2020: (_BT2020, "BT.2020"),
        }.get(_BT2020 if matrix in (10, 14) else primaries, (_BT601, "BT.601"))
        name = _MATRIX_NAMES.get(matrix, f"number {matrix}")
        self._note(f"its colour matrix ({name}) is not known here and read as {named}: colours may be wrong")
        return nearest

    def _on_white(self, picture: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if alpha.min() == 255:
            return picture
        self._note(SHOWN_ON_WHITE)
        cover = alpha.astype(np.uint16)
        white = (255 - cover) * 255 + 128
        blended = np.empty(picture.shape, dtype=np.uint8)
        for c in range(3):
            mix = picture[..., c] * cover + white
            blended[..., c] = (mix + (mix >> 8)) >> 8  # divided by 255 and rounded
        return blended

    def _turn_of_video(self, frame: av.VideoFrame) -> Turn:
        turn = turn_of(frame)
        if turn is None:
            self._note("it is meant to be turned by other than a quarter: frames are left as stored")
            turn = Turn()
        if self._first_turn is None:
            self._first_turn = turn
        elif turn != self._first_turn:
            self._note("frames differ in how they are to be turned: all are turned as the first")
        return self._first_turn


@lru_cache(maxsize=64)
def _kind(pixel_format: str) -> tuple[bool, int]:
    """Whether a pixel format can be transparent, and its depth in bits where it is grey in whole numbers, else 0."""
    layout = av.VideoFormat(pixel_format)
    has_alpha = layout.has_palette or any(c.is_alpha for c in layout.components)
    is_grey = pixel_format.startswith(("gray", "ya8", "ya16")) and "f" not in pixel_format
    return has_alpha, layout.components[0].bits if is_grey else 0


@lru_cache(maxsize=8)
def _limited_grey_table(bits: int) -> NDArray[np.uint16]:
    """From grey of 16 bits, as FFmpeg spreads limited codes of `bits` bits over it, to full range."""
    code = np.arange(65536) / STEPS * (2**bits - 1) / 2 ** (bits - 8)
    table: NDArray[np.uint16] = np.rint(np.clip((code - 16) / 219, 0, 1) * STEPS).astype(np.uint16)
    return table
