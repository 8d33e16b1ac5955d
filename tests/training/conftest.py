"""Videos of three kinds of movement, in class folders."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest


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


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of three videos."""
    root = tmp_path_factory.mktemp("classes")
    for number, (name, step) in enumerate((("goes_down", (3, 0)), ("goes_right", (0, 4)), ("staysPut", (0, 0)))):
        (root / name).mkdir()
        for i in range(3):
            write_video(root / name / f"{i}.mp4", step=step, seed=10 * number + i)
    return root
