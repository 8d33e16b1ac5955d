"""Small videos of a square that moves."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def write_video(path: Path, *, step: tuple[int, int], seed: int, frames: int = 10) -> None:
    """A bright square that moves by `step` a frame, over a noisy colour."""
    draw = np.random.default_rng(seed)
    colour = draw.integers(20, 200, 3)
    top, left = draw.integers(8, 24), draw.integers(8, 40)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            picture = np.full((48, 64, 3), colour, dtype=np.uint8)
            y, x = (top + i * step[0]) % 40, (left + i * step[1]) % 56
            picture[y : y + 8, x : x + 8] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
