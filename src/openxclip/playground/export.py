"""Clips as mp4 files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from torch import Tensor


def export_clip(frames: Tensor | Iterable[Tensor], path: str | Path, *, fps: float = 24, quality: int = 26) -> Path:
    """Write frames as H.264 (yuv420p) mp4. The file appears whole or not at all.

    Args:
        frames: uint8 (T, 3, H, W), H and W even; or several such, one after the other.
        path: of the file.
        fps: frames per second.
        quality: x264's CRF: lower is better and larger.

    Raises:
        ValueError: an odd side, which yuv420p cannot hold.
        OSError: it can't be written.
    """
    path = Path(path)
    parts = [frames] if isinstance(frames, Tensor) else frames
    with written_whole(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = None
        for part_TCHW in parts:
            height, width = part_TCHW.shape[-2:]
            if height % 2 or width % 2:
                raise ValueError(f"frames of {width} x {height}: both sides must be even for H.264 in yuv420p")
            if stream is None:
                options = {"crf": str(quality), "preset": "medium"}
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame_CHW in part_TCHW:
                image = av.VideoFrame.from_ndarray(frame_CHW.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
                container.mux(stream.encode(image))
        if stream is not None:
            container.mux(stream.encode(None))
    return path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Where to write instead: what is written there moves to `path` at the end, and is deleted if there is an error."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
