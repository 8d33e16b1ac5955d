"""Frames become H.264 video."""

from __future__ import annotations

import io

from openxclip.playground import render_clips
from openxclip.video.writing import write_mp4


def test_the_same_frames_give_the_same_bytes() -> None:
    frames_TCHW = render_clips(1, 3, size=96, num_frames=24).frames[0]
    frames_THWC = frames_TCHW.permute(0, 2, 3, 1).contiguous().numpy()

    def written() -> bytes:
        file = io.BytesIO()
        write_mp4(frames_THWC, file, fps=24)
        return file.getvalue()

    assert len({written() for _ in range(12)}) == 1
