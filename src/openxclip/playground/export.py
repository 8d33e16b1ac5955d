"""Clips as mp4 files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from torch import Tensor


def export_clip(frames_TCHW: Tensor, path: str | Path, *, fps: int = 24, quality: int = 26) -> Path:
    """Write one clip as H.264 (yuv420p) mp4.

    Args:
        frames_TCHW: uint8 (T, 3, H, W); H and W even.
        path: of the file.
        fps: frames per second.
        quality: x264's CRF: lower is better and larger.

    Raises:
        ValueError: an odd side, which yuv420p cannot hold.
    """
    height, width = frames_TCHW.shape[-2:]
    if height % 2 or width % 2:
        raise ValueError(f"frames of {width} x {height}: both sides must be even for H.264 in yuv420p")
    path = Path(path)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": str(quality), "preset": "slow"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame_CHW in frames_TCHW:
            image = av.VideoFrame.from_ndarray(frame_CHW.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return path
