"""Video out: frames as H.264."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray


def write_mp4(
    frames: Iterable[NDArray[np.uint8]], file: BinaryIO, *, fps: float, quality: int = 26, preset: str = "medium"
) -> None:
    """Write frames as H.264 (yuv420p) mp4.

    Args:
        frames: uint8 RGB (H, W, 3), H and W even, all of one size.
        file: opened to be written in binary mode; one that can seek.
        fps: frames per second.
        quality: x264's CRF: lower is better and larger.
        preset: x264's: slower is smaller.

    Raises:
        ValueError: an odd side, which yuv420p cannot hold.
        OSError: it can't be written.
    """
    import av

    with av.open(file, "w", format="mp4") as container:
        stream = None
        for frame_HWC in frames:
            if stream is None:
                height, width = frame_HWC.shape[:2]
                if height % 2 or width % 2:
                    raise ValueError(f"frames of {width} x {height}: both sides must be even for H.264 in yuv420p")
                options = {"crf": str(quality), "preset": preset}
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode(None))
