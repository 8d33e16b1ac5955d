"""Sampling by time: frame rates that vary, and constant ones whose times are rounded."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from openxclip.video import DecodeWorker, VideoReader, read_clip, read_clips, sample_clips, sample_uniform
from openxclip.video.clips import ClipPlan
from openxclip.video.reading import read_planned
from openxclip.video.sampling import Timeline, is_steady

RATES = [
    Fraction(rate)
    for rate in ("1", "5", "10", "12.5", "15", "24000/1001", "24", "25", "30000/1001", "30", "50", "60", "240")
]
TICKS = [Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 600), Fraction(1, 12800), Fraction(1, 25), Fraction(1, 100)]

# Nine seconds at one frame a second, then one second at sixty
VARYING = np.concatenate([np.arange(9.0), 9 + np.arange(60) / 60])
AT_MIDDLES = [0, 1, 3, 4, 5, 6, 8, 31]  # shown at 0.625, 1.875, … 9.375 s

rounding = st.sampled_from(["down", "nearest", "up"])


def rounded(count: int, rate: Fraction, tick: Fraction, how: str, first: Fraction = Fraction(0)) -> NDArray[np.float64]:
    """Return the times of frames of a constant rate, as a container with these ticks stores them."""
    add = {"down": Fraction(0), "nearest": Fraction(1, 2), "up": Fraction(999_999, 1_000_000)}[how]
    return np.array([float(floor((first + i / rate) / tick + add) * tick) for i in range(count)])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(
    rate=st.sampled_from(RATES),
    tick=st.sampled_from(TICKS),
    how=rounding,
    total=st.integers(1, 400),
    num_frames=st.integers(1, 40),
    num_clips=st.integers(1, 5),
    first=st.fractions(0, 3, max_denominator=1000),
)
def test_frames_of_a_constant_rate_are_counted(
    rate: Fraction, tick: Fraction, how: str, total: int, num_frames: int, num_clips: int, first: Fraction
) -> None:
    if tick * rate > 1:
        return  # such a container can't have these frames
    times = rounded(total, rate, tick, how, first)
    timeline = Timeline(times, duration=float(times[-1] + 1 / rate), tick=float(tick))
    assert [
        timeline.clip(num_frames=num_frames, number=number, num_clips=num_clips) for number in range(num_clips)
    ] == sample_clips(total=total, num_frames=num_frames, num_clips=num_clips)
    assert timeline.clip(num_frames=num_frames, generator=generator(3)) == sample_uniform(
        total=total, num_frames=num_frames, generator=generator(3)
    )


@settings(deadline=None)
@given(
    rate=st.sampled_from(RATES),
    tick=st.sampled_from(TICKS),
    total=st.integers(3, 400),
    num_frames=st.integers(1, 12),
    data=st.data(),
)
def test_frames_of_windows_of_a_constant_rate_are_counted(
    rate: Fraction, tick: Fraction, total: int, num_frames: int, data: st.DataObject
) -> None:
    if tick * rate > 1:
        return
    times = rounded(total, rate, tick, "nearest")
    timeline = Timeline(times, duration=float(times[-1] + 1 / rate), tick=float(tick))
    start = data.draw(st.floats(0, float(times[-1])))
    end = data.draw(st.one_of(st.none(), st.floats(start + 0.001, start + 10)))
    shown = timeline.frames(start=start, end=end)
    expected = sample_uniform(total=len(shown), num_frames=num_frames, first=shown.start)
    assert timeline.clip(num_frames=num_frames, start=start, end=end) == expected


def test_hours_of_a_constant_rate_are_counted() -> None:
    for rate in RATES:
        for tick in (Fraction(1, 1000), Fraction(1, 90000)):
            times = np.round(np.arange(500_000) / float(rate) / float(tick)) * float(tick)
            assert is_steady(times, tick=float(tick)), (rate, tick)


def test_frames_with_times_rounded_to_milliseconds_are_counted() -> None:
    """Matroska, FLV and ASF round to milliseconds; frames copied from them to MP4 or MPEG-TS keep these times."""
    times = rounded(300, Fraction(24000, 1001), Fraction(1, 1000), "nearest")
    assert is_steady(times, tick=1 / 90000)


@pytest.mark.parametrize(
    "times",
    [
        VARYING,
        np.delete(np.arange(100) / 25, 50),  # one frame is missing
        np.arange(100) ** 1.01 / 25,
        np.concatenate([np.arange(50) * 0.033, 50 * 0.033 + np.arange(50) * 0.034]),  # steps a millisecond apart
    ],
)
def test_frames_of_a_varying_rate_are_sampled_by_time(times: NDArray[np.float64]) -> None:
    assert not is_steady(times, tick=0.001)


@given(
    steps=st.lists(st.floats(0.01, 2), min_size=3, max_size=80),
    num_frames=st.integers(1, 16),
    num_clips=st.integers(1, 4),
    seed=st.integers(0, 100),
)
@settings(deadline=None)
def test_sampling_by_time_takes_the_frame_shown_at_that_time(
    steps: list[float], num_frames: int, num_clips: int, seed: int
) -> None:
    ends = np.cumsum(steps)
    times, duration = np.concatenate([[0.0], ends[:-1]]), float(ends[-1])
    if is_steady(times):
        return
    timeline = Timeline(times, duration=duration)
    if len(times) < num_frames:
        num_clips = 1
    for number in range(num_clips):
        clip = timeline.clip(num_frames=num_frames, number=number, num_clips=num_clips)
        for t, index in enumerate(clip):
            at = (t + (2 * number + 1) / (2 * num_clips)) * duration / num_frames
            assert times[index] <= at + 2e-6
            assert index == len(times) - 1 or at < times[index + 1] + 2e-6
    drawn = timeline.clip(num_frames=num_frames, generator=generator(seed))
    for t, index in enumerate(drawn):  # shown at some time within its segment
        assert times[index] < (t + 1) * duration / num_frames + 2e-6
        assert ends[index] > t * duration / num_frames - 2e-6
    counted = Timeline(times, duration=duration, sampling="frames")
    assert counted.clip(num_frames=num_frames) == sample_uniform(total=len(times), num_frames=num_frames)


def test_random_sampling_takes_a_time_in_each_segment() -> None:
    timeline = Timeline(VARYING, duration=10.0)
    source = generator()
    drawn = np.array([timeline.clip(num_frames=8, generator=source) for _ in range(2000)])
    assert np.mean(drawn[:, 0] == 0) == pytest.approx(1 / 1.25, abs=0.04)  # the first second of 1.25 s
    assert np.mean(drawn[:, 7] == 8) == pytest.approx(0.25 / 1.25, abs=0.04)
    assert set(drawn[:, 7]) == set(range(8, 69))


def test_samples_of_a_part_lie_in_it() -> None:
    timeline = Timeline(VARYING, duration=10.0)
    # from 7.9 s to 9.1 s: 0.1 s of frame 7, 1 s of frame 8, 0.1 s of frames at sixty a second
    assert timeline.clip(num_frames=12, start=7.9, end=9.1) == [7, *[8] * 10, 12]
    assert timeline.clip(num_frames=4, start=7.9, end=9.1) == [8, 8, 8, 8]
    assert timeline.clip(num_frames=4, start=2.0, end=6.0) == [2, 3, 4, 5]
    assert timeline.clip(num_frames=4, start=9.0) == sample_uniform(total=60, num_frames=4, first=9)
    assert Timeline(VARYING + 5, duration=15.0).clip(num_frames=8) == AT_MIDDLES  # the picture starts late


def test_an_unknown_way_of_sampling_is_refused() -> None:
    with pytest.raises(ValueError, match="sampling='fps': must be time or frames"):
        Timeline(VARYING, duration=10.0, sampling="fps")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sampling='fps': must be time or frames"):
        ClipPlan(num_frames=1, sampling="fps")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------- videos


def write(path: Path, stamps: list[int], base: Fraction, *, codec: str = "mpeg4") -> Path:
    """A video whose frames are shown at these stamps."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=60)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = base
        stream.codec_context.max_b_frames = 0
        for i, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 3 * i % 250, np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def varying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stamps = [60 * i for i in range(9)] + [540 + i for i in range(60)]
    return write(tmp_path_factory.mktemp("varying") / "varying.mkv", stamps, Fraction(1, 60))


def test_a_video_of_varying_rate(varying: Path) -> None:
    with VideoReader(varying) as reader:
        assert reader.times.tolist() == pytest.approx(VARYING.tolist(), abs=0.001)
        middles = [(2 * t + 1) * reader.duration / 16 for t in range(8)]
        expected = [int(np.searchsorted(reader.times, at, side="right")) - 1 for at in middles]
    assert expected[:7] == [0, 1, 3, 4, 5, 6, 8]
    assert list(read_clip(varying, num_frames=8).indices) == expected
    assert list(read_clip(varying, num_frames=8, sampling="frames").indices) == sample_uniform(total=69, num_frames=8)
    together = sorted(i for clip in read_clips(varying, ClipPlan(num_frames=4, num_clips=2)) for i in clip.indices)
    assert together == expected
    with DecodeWorker() as worker:
        (clip,) = worker.read_clips(varying, ClipPlan(num_frames=8))
        assert list(clip.indices) == expected
        for read in (read_planned, worker.read_planned):
            (piece,) = read(varying, ClipPlan(num_frames=4, num_clips=2))
            assert sorted(i for one in piece.clips for i in one.indices) == expected
            (piece,) = read(varying, ClipPlan(num_frames=8, sampling="frames"))
            assert list(piece.clips[0].indices) == sample_uniform(total=69, num_frames=8)
            (piece,) = read(varying, ClipPlan(num_frames=4, window=5.0))
            assert [clip.indices for clip in piece.clips] == [(0, 1, 3, 4), (5, 6, 8, expected[-1])]


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts", "a.flv", "a.avi", "a.mov", "a.nut", "a.asf"])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25)])
def test_files_of_a_constant_rate_are_counted(tmp_path: Path, name: str, rate: Fraction) -> None:
    codec = {"a.ts": "mpeg2video", "a.flv": "flv1", "a.asf": "msmpeg4v3"}.get(name, "mpeg4")
    path = write(tmp_path / name, list(range(50)), 1 / rate, codec=codec)
    with VideoReader(path) as reader:
        total = reader.num_frames
        assert is_steady(reader.times, tick=reader.tick)
    for num_frames in (1, 3, 8, 32):
        assert list(read_clip(path, num_frames=num_frames).indices) == sample_uniform(
            total=total, num_frames=num_frames
        )


def test_moving_images_are_read_by_their_durations(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (16, 12), (40 * i, 0, 0)) for i in range(5)]
    for name, durations, expected in (
        ("held.gif", [100, 1600, 100, 100, 100], [1, 1, 1, 2]),
        ("even.gif", [30, 30, 40, 30, 30], [0, 1, 3, 4]),  # thirty a second, rounded to hundredths
        ("held.webp", [100, 1600, 100, 100, 100], [1, 1, 1, 2]),
        ("held.png", [100, 1600, 100, 100, 100], [1, 1, 1, 2]),
    ):
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=durations)
        assert list(read_clip(tmp_path / name, num_frames=4).indices) == expected, name
        assert read_clip(tmp_path / name, num_frames=4, sampling="frames").indices == (0, 1, 3, 4)
