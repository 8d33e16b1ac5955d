"""Write frames as H.264 video."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

# Without x264's mbtree the same frames give the same bytes. Its vector code reads memory beyond the rows of small
# frames (of 64 or 96 pixels, with AVX-512), so bytes and pictures differed from one encoding to the next.
_X264 = "mbtree=0"


def write_mp4(
    frames: Iterable[NDArray[np.uint8]], file: BinaryIO, *, fps: float, quality: int = 26, preset: str = "medium"
) -> None:
    """Write frames as an MP4 with H.264 (yuv420p). The same frames give the same bytes on the same machine.

    Args:
        frames: frames of one size, uint8 RGB (H, W, 3) with H and W even.
        file: a seekable file object, opened for writing in binary mode.
        fps: frames per second.
        quality: x264's CRF; lower is better and larger.
        preset: x264's preset; slower is smaller.

    Raises:
        ValueError: a side is odd, which yuv420p doesn't allow.
        OSError: the file can't be written.
    """
    import av

    with av.open(file, "w", format="mp4") as container:
        stream = None
        for frame_HWC in frames:
            if stream is None:
                height, width = frame_HWC.shape[:2]
                if height % 2 or width % 2:
                    raise ValueError(f"frames of {width} x {height}: both sides must be even for H.264 in yuv420p")
                options = {"crf": str(quality), "preset": preset, "x264-params": _X264}
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode(None))
