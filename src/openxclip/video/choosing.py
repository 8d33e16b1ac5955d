"""Which frames of an open video stand for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openxclip.errors import VideoError
from openxclip.video.sampling import Sampling, Short, Timeline

if TYPE_CHECKING:
    from openxclip.video.decoding import VideoReader  # which imports this

_MANY = 10_000  # so many frames asked for that a list of them is not made before the limit of memory was looked at


def choose_clips(
    reader: VideoReader,
    *,
    num_frames: int,
    num_clips: int,
    start: float | None,
    end: float | None,
    short: Short,
    sampling: Sampling,
) -> list[list[int]]:
    """The frames of the clips that `read_clips` reads, `num_clips` lists of `num_frames` indices."""
    if num_clips < 1:
        raise ValueError(f"num_clips={num_clips} must be 1 or more")
    timeline = timeline_of(reader, sampling, start=start)
    check_many(reader, num_frames * num_clips)
    count = len(timeline.frames(start=start, end=end))
    if short == "error" and count < num_frames:
        raise VideoError(reader.source, f"it has {count} frames there and {num_frames} are asked for: ask for fewer")
    return [
        timeline.clip(num_frames=num_frames, number=number, num_clips=num_clips, start=start, end=end, short=short)
        for number in range(num_clips)
    ]


def timeline_of(reader: VideoReader, sampling: Sampling, *, start: float | None = None) -> Timeline:
    """When the frames of a video are shown.

    Raises:
        VideoError: it ends before `start`, in seconds.
    """
    if start is not None and start >= reader.duration:
        raise VideoError(reader.source, f"it ends at {reader.duration:.2f} s, before start={start} s")
    return Timeline(reader.times, duration=reader.duration, tick=reader.tick, sampling=sampling)


def check_many(reader: VideoReader, count: int) -> None:
    """Refuse so many frames, where they take more memory than they may, before a list of them is made."""
    if count > _MANY:
        reader.limits.check_memory(reader.source, count=count, height=reader.height, width=reader.width)
