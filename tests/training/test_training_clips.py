"""Which frames a clip of training has: of short videos, and of those whose frame rate varies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openxclip.training.clips import TrainClips
from openxclip.training.data import Sample
from openxclip.video import VideoReader, read_clip


def chosen(monkeypatch: pytest.MonkeyPatch, sample: Sample, *, seed: int = 0, **how: Any) -> tuple[int, ...]:
    """The indices of the frames that a training clip is made of."""
    read: list[Sequence[int]] = []
    original = VideoReader.get_frames

    def noted(self: VideoReader, indices: Sequence[int]) -> Any:
        read.append(indices)
        return original(self, indices)

    with monkeypatch.context() as patch:
        patch.setattr(VideoReader, "get_frames", noted)
        clips = TrainClips([sample], size=32, crop_scales=(1.0,), seed=seed, per_epoch=1, **how)
        clips[(0, 0, 0, True)]
    (indices,) = read
    return tuple(indices)


@pytest.mark.parametrize("total", [1, 2, 3, 5, 7])
def test_a_short_video_is_spread_as_in_testing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int) -> None:
    np.save(tmp_path / "short.npy", np.zeros((total, 40, 40, 3), dtype=np.uint8))
    expected = tuple((2 * t + 1) * total // 16 for t in range(8))
    sample = Sample(str(tmp_path / "short.npy"), label=0)
    for seed in range(3):
        assert chosen(monkeypatch, sample, seed=seed, num_frames=8) == expected
    assert read_clip(sample.source, num_frames=8).indices == expected


def test_so_is_a_short_stretch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "long.npy", np.zeros((100, 40, 40, 3), dtype=np.uint8))  # 25 frames a second
    sample = Sample(str(tmp_path / "long.npy"), label=0, start=1.0, end=1.12)
    expected = (25, 25, 25, 26, 26, 27, 27, 27)
    assert chosen(monkeypatch, sample, num_frames=8) == expected
    assert read_clip(sample.source, num_frames=8, start=1.0, end=1.12).indices == expected
