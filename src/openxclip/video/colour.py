"""From a decoded frame to the RGB picture that a viewer would see.

YCbCr becomes RGB as FFmpeg does it (swscale, with PyAV's settings), so that frames equal those of other readers that
are built on it. What swscale leaves undone is done here: HDR, limited-range grey, transparency, turning.

Sources: ITU-R BT.2100-2 (PQ, HLG and its OOTF), BT.2390-11 section 5.4 (EETF, the roll-off of highlights),
BT.2408-7 (203 cd/m² is HDR's reference white), BT.1886 (the SDR display), BT.2087-0 (BT.2020 to BT.709),
ISO/IEC 14496-12 (display matrix).
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.forking import leak, watch_forks
from openxclip.video.frames import rgb_bytes
from openxclip.video.orientation import Turn, turn_of

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
_CRASHES = frozenset({"yaf32le", "yaf32be"})  # swscale of FFmpeg 8 ends the process over these

_REFERENCE_WHITE = 203.0  # cd/m²: BT.2408; becomes the peak of the SDR display
_PEAK = 1000.0  # cd/m²: HLG's nominal display, and the usual mastering display for PQ
_PQ_LIMIT = 10000.0
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
# linear RGB to linear RGB of BT.709
_TO_BT709 = {
    _BT709: np.eye(3, dtype=np.float32),
    _BT2020: np.array(
        [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008350], [-0.018151, -0.100579, 1.118730]],
        dtype=np.float32,
    ),
    _DISPLAY_P3: np.array(
        [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]], dtype=np.float32
    ),
}
_STEPS = 65535  # tables over light have a step for each 16-bit code of its square root
_PIXELS_AT_ONCE = 1 << 15  # what fits a cache


class _YCbCr(NamedTuple):
    """From 16-bit YCbCr codes to R'G'B' in [0, 1]: matrix times codes, plus offset."""

    matrix: NDArray[np.float32]
    offset: NDArray[np.float32]

    @classmethod
    def named(cls, kr: float, kb: float, *, is_full: bool) -> _YCbCr:
        """Of these luma coefficients (ITU-T H.273)."""
        kg = 1 - kr - kb
        rgb = np.array(
            [[1, 0, 2 * (1 - kr)], [1, -2 * kb * (1 - kb) / kg, -2 * kr * (1 - kr) / kg], [1, 2 * (1 - kb), 0]]
        )
        black, grey = (0, 128 << 8) if is_full else (16 << 8, 128 << 8)
        reach = np.array([65535, 65535, 65535] if is_full else [219 << 8, 224 << 8, 224 << 8])
        matrix = rgb / reach
        return cls(matrix.astype(np.float32), (matrix @ [-black, -grey, -grey]).astype(np.float32)[:, None])


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
        ycbcr: _YCbCr | None = None
        if limited_grey:
            codes = np.take(_limited_grey_table(grey_bits), self._reformat(frame, "gray16le", width, height))
            codes = np.repeat(codes[..., None], 3, axis=2)
        elif frame.format.is_rgb:
            codes = self._reformat(frame, "rgb48le", width, height)
        else:
            codes, ycbcr = self._deep_ycbcr(frame, width, height)
        if hdr:
            is_pq = frame.color_trc == _PQ
            primaries = frame.color_primaries if frame.color_primaries in _TO_BT709 else _BT2020
            self._note(f"HDR ({'PQ' if is_pq else 'HLG'}, {_GAMUTS[primaries]}) is tone-mapped to SDR BT.709")
            picture = _tone_map(codes, ycbcr, pq=is_pq, to_bt709=_TO_BT709[primaries])
        else:
            picture = ((codes.astype(np.uint32) * 255 + _STEPS // 2) // _STEPS).astype(np.uint8)
        if has_alpha:
            picture = self._on_white(picture, self._reformat(frame, "rgba", width, height)[..., 3])
        return picture

    def _reformat(self, frame: av.VideoFrame, pixel_format: str, width: int, height: int, **colours: Any) -> Any:
        is_same_size = (frame.width, frame.height) == (width, height)
        matrix, color_range = frame.colorspace, frame.color_range
        try:
            frame.colorspace = self._matrix(frame)
            if color_range > _FULL:
                frame.color_range = _LIMITED
            converted = self._reformatter.reformat(
                frame,
                width=width,
                height=height,
                format=pixel_format,
                interpolation=Interpolation.BILINEAR if is_same_size else Interpolation.BICUBIC,
                **colours,
            )
        finally:
            frame.colorspace, frame.color_range = matrix, color_range
        return converted.to_ndarray(channel_last=True)

    def _deep_ycbcr(self, frame: av.VideoFrame, width: int, height: int) -> tuple[NDArray[np.uint16], _YCbCr]:
        """YCbCr codes of 16 bits (H, W, 3), and what they mean: swscale's RGB of 16 bits is 0.4 % too dark."""
        is_full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
        color_range = ColorRange.JPEG if is_full else ColorRange.MPEG
        kr, kb = _LUMA.get(self._matrix(frame), _LUMA[_BT601])
        # the same range on both sides: nothing is converted
        codes = self._reformat(
            frame, "yuv444p16le", width, height, src_color_range=color_range, dst_color_range=color_range
        )
        return codes, _YCbCr.named(kr, kb, is_full=is_full)

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
    code = np.arange(65536) / _STEPS * (2**bits - 1) / 2 ** (bits - 8)
    table: NDArray[np.uint16] = np.rint(np.clip((code - 16) / 219, 0, 1) * _STEPS).astype(np.uint16)
    return table


# -- HDR -------------------------------------------------------------------------------------------------------------


def _tone_map(
    codes: NDArray[np.uint16], ycbcr: _YCbCr | None, *, pq: bool, to_bt709: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """From HDR codes of 16 bits (H, W, 3), YCbCr or R'G'B' in full range, to SDR BT.709 of the same shape."""
    to_light = _pq_light() if pq else _hlg_scene_light()
    gain, ootf, to_sdr = _highlight_gain(), _hlg_ootf(), _sdr_codes()
    flat = codes.reshape(-1, 3)
    out = np.empty(flat.shape, dtype=np.uint8)
    for start in range(0, len(flat), _PIXELS_AT_ONCE):
        part = slice(start, start + _PIXELS_AT_ONCE)
        codes_3N = flat[part].T
        if ycbcr:
            signal_3N = ycbcr.matrix @ codes_3N.astype(np.float32) + ycbcr.offset
            codes_3N = (signal_3N.clip(0, 1) * np.float32(_STEPS) + np.float32(0.5)).astype(np.uint16)
        light_3N = np.take(to_light, codes_3N)
        if not pq:
            light_3N *= np.take(ootf, _root_index(_BT2020_LUMA @ light_3N))
        light_3N *= np.take(gain, _root_index(light_3N.max(axis=0) * np.float32(_PEAK / _PQ_LIMIT)))
        light_3N = (to_bt709 @ light_3N).clip(0, 1)
        out[part] = np.take(to_sdr, _root_index(light_3N)).T
    return out.reshape(codes.shape)


def _root_index(light: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Where light in [0, 1] stands in a table over its square root, which is fine enough near black."""
    index: NDArray[np.uint16] = (np.sqrt(light) * np.float32(_STEPS) + np.float32(0.5)).astype(np.uint16)
    return index


def _of_root() -> NDArray[np.float64]:
    return np.linspace(0, 1, _STEPS + 1) ** 2


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq(nits: Any) -> Any:
    power = (nits / _PQ_LIMIT) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _pq_nits(signal: Any) -> Any:
    root = signal ** (1 / _M2)
    return _PQ_LIMIT * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


@lru_cache(maxsize=1)
def _pq_light() -> NDArray[np.float32]:
    """Display light of PQ codes, 1 for _PEAK."""
    table: NDArray[np.float32] = (_pq_nits(np.linspace(0, 1, 65536)) / _PEAK).astype(np.float32)
    return table


@lru_cache(maxsize=1)
def _hlg_scene_light() -> NDArray[np.float32]:
    """Scene light of HLG codes, in [0, 1]."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.linspace(0, 1, 65536)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    table: NDArray[np.float32] = np.clip(scene, 0, 1).astype(np.float32)
    return table


@lru_cache(maxsize=1)
def _hlg_ootf() -> NDArray[np.float32]:
    """What scene light is multiplied with to become display light, over the root of its luminance: gamma is 1.2."""
    table: NDArray[np.float32] = (_of_root() ** 0.2).astype(np.float32)
    return table


@lru_cache(maxsize=1)
def _highlight_gain() -> NDArray[np.float32]:
    """What light (1 for _PEAK) is multiplied with to become SDR light (1 for the SDR display's peak).

    BT.2390's EETF, with black at 0 on both sides, over the root of a pixel's greatest component in parts of PQ's limit:
    the three are scaled alike, which keeps the hue.
    """
    nits = np.maximum(_of_root() * _PQ_LIMIT, 1e-6)
    e1 = np.minimum(_pq(nits) / _pq(_PEAK), 1)
    top = _pq(_REFERENCE_WHITE) / _pq(_PEAK)
    knee = 1.5 * top - 0.5
    t = np.maximum(e1 - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * top
    sdr_nits = np.where(e1 < knee, nits, _pq_nits(spline * _pq(_PEAK)))
    table: NDArray[np.float32] = (sdr_nits / _REFERENCE_WHITE * _PEAK / nits).astype(np.float32)
    return table


@lru_cache(maxsize=1)
def _sdr_codes() -> NDArray[np.uint8]:
    """8-bit codes of SDR light, over its root: the inverse of BT.1886 with black at 0."""
    table: NDArray[np.uint8] = np.rint(_of_root() ** (1 / 2.4) * 255).astype(np.uint8)
    return table
