"""The frames of training clips: short videos, and videos with a varying frame rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from openxclip.datasets import Sample
from openxclip.training.batches import ClipKey
from openxclip.training.loading import TrainClips
from openxclip.video import VideoReader, read_clip


def write(path: Path, stamps: Sequence[int], base: Fraction) -> Sample:
    """Write a video with these timestamps."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=60)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = base
        for i, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Sample(str(path), label=0)


def chosen(monkeypatch: pytest.MonkeyPatch, sample: Sample, *, seed: int = 0, **options: Any) -> tuple[int, ...]:
    """Return the frame indices of a training clip."""
    read: list[Sequence[int]] = []
    original = VideoReader.get_frames

    def record(self: VideoReader, indices: Sequence[int]) -> Any:
        read.append(indices)
        return original(self, indices)

    with monkeypatch.context() as patch:
        patch.setattr(VideoReader, "get_frames", record)
        clips = TrainClips([sample], size=32, crop_scales=(1.0,), seed=seed, steps_per_epoch=1, **options)
        clips[ClipKey(0, 0, 0, True)]
    (indices,) = read
    return tuple(indices)


@pytest.mark.parametrize("total", [1, 2, 3, 5, 7])
def test_a_short_video_is_sampled_as_in_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int) -> None:
    sample = write(tmp_path / "short.mp4", range(total), Fraction(1, 10))
    expected = tuple((2 * t + 1) * total // 16 for t in range(8))
    for seed in range(3):
        for sampling in ("time", "frames"):
            assert chosen(monkeypatch, sample, seed=seed, num_frames=8, sampling=sampling) == expected
    assert read_clip(sample.source, num_frames=8).indices == expected


def test_a_short_stretch_is_sampled_as_in_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "long.mp4", range(30), Fraction(1, 10)).source
    expected = (10, 10, 10, 11, 11, 12, 12, 12)
    assert chosen(monkeypatch, Sample(source, label=0, start=1.0, end=1.3), num_frames=8) == expected
    assert read_clip(source, num_frames=8, start=1.0, end=1.3).indices == expected


def test_a_varying_frame_rate_is_sampled_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine seconds at 1 frame/s, then one second at 60: by time, a tenth of the frames is in the last second."""
    stamps = [60 * i for i in range(9)] + [540 + i for i in range(60)]
    sample = write(tmp_path / "varying.mp4", stamps, Fraction(1, 60))
    late = Counter[str]()
    for sampling in ("time", "frames"):
        for seed in range(20):
            indices = chosen(monkeypatch, sample, seed=seed, num_frames=8, sampling=sampling)
            assert list(indices) == sorted(indices)
            late[sampling] += sum(index >= 9 for index in indices)
    assert late["frames"] > 0.8 * 160
    assert late["time"] < 0.15 * 160
    part = Sample(sample.source, label=0, start=9.0)  # a constant rate, with the same draws
    assert chosen(monkeypatch, part, num_frames=8) == chosen(monkeypatch, part, num_frames=8, sampling="frames")


def test_a_constant_frame_rate_is_sampled_as_by_counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("even.mkv", "even.mp4"):
        sample = write(tmp_path / name, range(40), Fraction(1001, 24000))
        for seed in range(3):
            by_time, by_frames = (
                chosen(monkeypatch, sample, seed=seed, num_frames=8, sampling=sampling)
                for sampling in ("time", "frames")
            )
            assert by_time == by_frames
