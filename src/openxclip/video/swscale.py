"""Convert decoded frames to other pixel formats with FFmpeg's swscale, using their colour matrix and range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from openxclip.common.forking import leak, watch_forks
from openxclip.video.colour_codes import BT601, BT709, BT2020, FULL, HLG, LIMITED, PQ, UNSPECIFIED
from openxclip.video.tone_mapping import YCbCr

_KNOWN_MATRICES = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
_UNKNOWN_MATRICES = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    12: "derived from its primaries",
    13: "derived from its primaries, with constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-R",
    17: "YCgCo-R",
}
_NEAR_BT2020 = (10, 14)
_NAMES = {BT601: "BT.601", BT709: "BT.709", BT2020: "BT.2020"}
_LUMA = {BT709: (0.2126, 0.0722), BT601: (0.299, 0.114), BT2020: (0.2627, 0.0593)}  # Kr, Kb
# swscale of FFmpeg 8 gives a few samples at the edges of its threads' slices other values from call to call
_DIFFERS_BY_THREADS = frozenset({"gray16le", "yuv444p16le"})


class FrameConverter:
    """Converts the frames of one video.

    Args:
        note: called with each note for the user.
    """

    def __init__(self, note: Callable[[str], object]) -> None:
        self._note = note
        self._reformatter = VideoReformatter()
        watch_forks(self)

    def after_fork(self) -> None:
        """See `forking`: swscale has threads too."""
        leak(self._reformatter)

    def to_array(self, frame: av.VideoFrame, pixel_format: str, width: int, height: int) -> Any:
        """Return the frame as an array (H, W) or (H, W, channels) of this format and size."""
        return self._reformat(frame, pixel_format, width, height).to_ndarray(channel_last=True)

    def to_ycbcr16(self, frame: av.VideoFrame, width: int, height: int) -> tuple[list[NDArray[np.uint16]], YCbCr]:
        """Return YCbCr codes of 16 bits, each (H, W), and their conversion: swscale's 16-bit RGB is 0.4 % too dark."""
        is_full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
        color_range = ColorRange.JPEG if is_full else ColorRange.MPEG
        kr, kb = _LUMA.get(self._matrix(frame), _LUMA[BT601])
        # the same range on both sides, so that no range is converted
        converted = self._reformat(
            frame, "yuv444p16le", width, height, src_color_range=color_range, dst_color_range=color_range
        )
        # views of the planes: to_ndarray would copy and interleave them
        planes = [np.frombuffer(memoryview(p), "<u2").reshape(height, -1)[:, :width] for p in converted.planes]
        return planes, YCbCr.from_luma(kr, kb, is_full=is_full)

    def _reformat(
        self, frame: av.VideoFrame, pixel_format: str, width: int, height: int, **colours: Any
    ) -> av.VideoFrame:
        is_same_size = (frame.width, frame.height) == (width, height)
        matrix, color_range = frame.colorspace, frame.color_range
        try:
            frame.colorspace = self._matrix(frame)
            if color_range > FULL:
                frame.color_range = LIMITED
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

    def _matrix(self, frame: av.VideoFrame) -> int:
        """Return the frame's colour matrix, or the nearest one that FFmpeg knows."""
        matrix, primaries = frame.colorspace, frame.color_primaries
        if matrix == UNSPECIFIED and frame.color_trc in (PQ, HLG):
            return BT2020  # the only matrix of BT.2100
        if matrix in _KNOWN_MATRICES or frame.format.is_rgb:
            return int(matrix)
        nearest = BT2020 if matrix in _NEAR_BT2020 else primaries
        if nearest not in (BT709, BT2020):
            nearest = BT601
        name = _UNKNOWN_MATRICES.get(matrix, f"number {matrix}")
        self._note(f"its colour matrix ({name}) is not supported and read as {_NAMES[nearest]}: colours may be wrong")
        return nearest
