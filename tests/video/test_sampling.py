from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openxclip.video.sampling import frame_range, sample_clips, sample_times, sample_uniform

totals = st.one_of(st.integers(1, 60), st.integers(1, 10**15))
counts = st.integers(1, 64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(total=totals, num_frames=counts, first=st.integers(0, 10**6))
def test_midpoints_equal_a_slow_exact_reference(total: int, num_frames: int, first: int) -> None:
    segment = Fraction(total, num_frames)
    expected = [first + floor((t + Fraction(1, 2)) * segment) for t in range(num_frames)]
    assert sample_uniform(total=total, num_frames=num_frames, first=first) == expected
    if total < num_frames:  # in training too
        assert sample_uniform(total=total, num_frames=num_frames, first=first, generator=generator()) == expected


@given(num_frames=counts, data=st.data(), num_clips=st.integers(1, 4))
def test_a_short_video_is_spread_over_the_clip(num_frames: int, data: st.DataObject, num_clips: int) -> None:
    total = data.draw(st.integers(1, num_frames))
    got = sample_uniform(total=total, num_frames=num_frames)
    times_taken = [got.count(i) for i in range(total)]
    assert max(times_taken) - min(times_taken) <= 1
    assert min(times_taken) >= 1
    assert got == sorted(got)
    assert sample_clips(total=total, num_frames=num_frames, num_clips=num_clips) == [got] * num_clips


@given(total=totals, num_frames=counts)
def test_midpoints_are_symmetric(total: int, num_frames: int) -> None:
    got = sample_uniform(total=total, num_frames=num_frames)
    for i, (low, high) in enumerate(zip(got, reversed(got), strict=True)):
        # where a segment's midpoint falls between two frames, the later one is taken
        between = (2 * i + 1) * total % (2 * num_frames) == 0
        assert low + high == total - 1 + between


@given(total=totals, num_frames=counts, seed=st.integers(0, 2**31), random=st.booleans())
def test_each_frame_lies_in_its_segment(total: int, num_frames: int, seed: int, random: bool) -> None:
    source = generator(seed) if random else None
    got = sample_uniform(total=total, num_frames=num_frames, generator=source)
    assert len(got) == num_frames
    assert got == sorted(got)
    assert 0 <= got[0] <= got[-1] < total
    if total >= num_frames:
        segment = Fraction(total, num_frames)
        for t, i in enumerate(got):
            assert t * segment <= i + Fraction(1, 2) <= (t + 1) * segment
        assert len(set(got)) == num_frames


@given(total=st.integers(1, 40), num_frames=st.integers(1, 12))
def test_random_frames_can_be_any_frame(total: int, num_frames: int) -> None:
    if total < num_frames:
        return
    source, seen = generator(), set()
    for _ in range(400):
        seen.update(sample_uniform(total=total, num_frames=num_frames, generator=source))
    assert seen == set(range(total))


def test_random_frames_depend_on_the_generator() -> None:
    one = sample_uniform(total=300, num_frames=8, generator=generator(7))
    assert one == sample_uniform(total=300, num_frames=8, generator=generator(7))
    assert one != sample_uniform(total=300, num_frames=8, generator=generator(8))


@given(total=totals, num_frames=counts, num_clips=st.integers(1, 6))
def test_clips_are_the_midpoints_of_finer_segments(total: int, num_frames: int, num_clips: int) -> None:
    clips = sample_clips(total=total, num_frames=num_frames, num_clips=num_clips)
    assert [len(c) for c in clips] == [num_frames] * num_clips
    if num_clips == 1:
        assert clips == [sample_uniform(total=total, num_frames=num_frames)]
    if total >= num_frames:
        for t in range(num_frames):
            for c, clip in enumerate(clips):
                point = (t + Fraction(2 * c + 1, 2 * num_clips)) * Fraction(total, num_frames)
                assert clip[t] == floor(point)
    if total >= num_frames * num_clips:
        assert len({i for clip in clips for i in clip}) == num_frames * num_clips


def test_short_videos() -> None:
    assert sample_uniform(total=3, num_frames=5) == [0, 0, 1, 2, 2]
    assert sample_uniform(total=3, num_frames=8) == [0, 0, 0, 1, 1, 2, 2, 2]
    assert sample_uniform(total=3, num_frames=5, short="repeat_last") == [0, 1, 2, 2, 2]
    assert sample_uniform(total=3, num_frames=7, short="wrap", first=10) == [10, 11, 12, 10, 11, 12, 10]
    assert sample_uniform(total=5, num_frames=5, short="error") == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="3 frames and 5 are asked for"):
        sample_uniform(total=3, num_frames=5, short="error")
    assert sample_clips(total=2, num_frames=3, num_clips=2) == [[0, 1, 1], [0, 1, 1]]


def test_times() -> None:
    times = [0.0, 0.1, 0.25, 0.5]
    assert sample_times(times=times, at=[0.0, 0.09, 0.1, 0.3, 0.5, 9.0, 0.1]) == [0, 0, 1, 2, 3, 3, 1]
    assert sample_times(times=[0.08, 0.12], at=[0.0]) == [0]
    for bad in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="0 s or later"):
            sample_times(times=times, at=[bad])
    with pytest.raises(ValueError, match=r"past the end: it must be before 0\.600"):
        sample_times(times=times, at=[0.6], duration=0.6)
    with pytest.raises(ValueError, match="empty"):
        sample_times(times=[], at=[0.0])


@given(fps=st.sampled_from([23.976, 25.0, 29.97, 30.0, 60.0]), i=st.integers(0, 99_999))
def test_a_time_computed_from_the_rate_finds_its_frame(fps: float, i: int) -> None:
    times = [n / fps for n in range(max(0, i - 3), i + 4)]
    assert sample_times(times=times, at=[i * (1 / fps)]) == [min(i, 3)]


def test_frame_range() -> None:
    times = [i / 10 for i in range(100)]
    assert frame_range(times=times) == range(100)
    assert frame_range(times=times, start=2.0, end=3.0) == range(20, 30)
    assert frame_range(times=times, start=2.05, end=2.06) == range(20, 21)
    assert frame_range(times=times, end=0.31) == range(4)
    assert frame_range(times=times, start=9.85, end=50.0) == range(98, 100)
    with pytest.raises(ValueError, match=r"end=2 s must be after start=3 s"):
        frame_range(times=times, start=3, end=2)
    with pytest.raises(ValueError, match="past the end"):
        frame_range(times=times, start=10.0, duration=10.0)
    with pytest.raises(ValueError, match="0 s or later"):
        frame_range(times=times, start=-1.0)


@given(total=st.integers(1, 300), start=st.integers(0, 299), length=st.integers(1, 300), num_frames=counts)
def test_samples_of_a_range_lie_in_it(total: int, start: int, length: int, num_frames: int) -> None:
    times = [i / 25 for i in range(total)]
    start = min(start, total - 1)
    kept = frame_range(times=times, start=start / 25, end=(start + length) / 25, duration=total / 25)
    assert kept == range(start, min(total, start + length))
    got = sample_uniform(total=len(kept), num_frames=num_frames, first=kept.start)
    assert set(got) <= set(kept)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total": 0, "num_frames": 1}, "total=0 must be 1 or more"),
        ({"total": 1, "num_frames": 0}, "num_frames=0 must be 1 or more"),
        ({"total": 1, "num_frames": 1, "first": -1}, "first=-1 must be 0 or more"),
        ({"total": 1, "num_frames": 1, "short": "pad"}, "short='pad' is not a policy: choose one of .*repeat_last"),
    ],
)
def test_numbers_out_of_range_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_uniform(**arguments)
    with pytest.raises(ValueError, match=message):
        sample_clips(num_clips=1, **arguments)


def test_zero_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="num_clips=0"):
        sample_clips(total=1, num_frames=1, num_clips=0)
