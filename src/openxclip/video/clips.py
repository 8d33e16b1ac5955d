"""Choose the clips that represent a video, and their frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from openxclip.errors import VideoError
from openxclip.video.decoding import VideoReader
from openxclip.video.sampling import Sampling, Short, Timeline, check_part, check_sampling, check_short

_MANY = 10_000  # frames; for more, the memory limit is checked before their indices are listed
_PIECE_BYTES = 256 << 20  # of decoded frames of a group of clips, and of frames that windows share
_GROUP_WINDOWS = 32  # the most windows in a group, which is read within one time limit
_GROUP_CLIPS = 4096  # the most clips over the video in a group; each group decodes the whole video
_MIN_S = 0.001
_ROUNDING_S = 1e-6  # times that differ by less are equal
_LONGEST_WINDOW = 1.5  # times `ClipPlan.window`
_TWO_FRAMES = 1.999  # a bit less than 2, because containers round the times of frames, at worst to milliseconds

#: Version of the rule that cuts videos into windows (see `ClipPlan`); features of two versions must not be mixed.
WINDOW_RULE = 2


class Clip(NamedTuple):
    """A part of a video and the frames that represent it.

    Attributes:
        start, end: bounds of the part, in seconds.
        indices: indices of the clip's frames in the video.
    """

    start: float
    end: float
    indices: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """Which clips represent a video: one or more over the whole video or a part of it, or one for each window.

    Windows begin at 0, `stride`, 2 `stride`, … seconds. Those that end before the video does have their full length. A
    video shorter than a window is one window, and so is a single frame. Otherwise a remainder of the video after the
    last full window is treated by its length:

    - A remainder shorter than half a window is joined to the last window, which then ends with the video.
    - A longer remainder becomes another window, which ends with the video. If `stride` is longer than a window, there
      is a gap before it, as between any two windows; if less than half a window is left after the gap, no window is
      added.

    So every window lasts between half and one and a half times `window`, unless the whole video is shorter. The
    frames of a window are those of `read_clip(start=…, end=…)`. A window must be as long as two frames of the video;
    `PlannedClips` checks that, because it depends on the video's frame rate.

    Attributes:
        num_frames: number of frames of each clip; None is the number that the model was trained with.
        num_clips: number of clips over the video (see `sampling.sample_clips`); 1 with `window`.
        window: length of a window, in seconds.
        stride: seconds from the start of a window to the start of the next; default is `window`.
        sampling: how to choose the frames of a clip, see `sampling.Timeline`.
        start, end: the part of the video to use, in seconds; None with `window`.
        short: how to choose from fewer than `num_frames` frames, see `sampling.sample_uniform`.
        all_frames: with `window`, read every frame of the video, not only those that the windows need. The clips are
            the same; it is meant for readers of the stream of frames (`pipeline.clip_reading.ClipReader.read_frames`).

    Raises:
        ValueError: a value is out of range, or two values exclude each other.
    """

    num_frames: int | None = None
    num_clips: int = 1
    window: float | None = None
    stride: float | None = None
    sampling: Sampling = "time"
    start: float | None = None
    end: float | None = None
    short: Short = "spread"
    all_frames: bool = False

    def __post_init__(self) -> None:
        for name in ("num_frames", "num_clips"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name}={number}: must be 1 or more.")
            if number is not None and number != int(number):
                raise ValueError(f"{name}={number}: must be a whole number.")
        for name in ("window", "stride"):
            seconds = getattr(self, name)
            if seconds is not None and not _MIN_S <= seconds < math.inf:
                raise ValueError(f"{name}={seconds}: must be {_MIN_S:g} seconds or more.")
        check_sampling(self.sampling)
        check_short(self.short)
        check_part(self.start, self.end)
        if self.window is None and self.stride is not None:
            raise ValueError(f"stride={self.stride:g} is from one window to the next: say how long a window is.")
        if self.window is not None and self.num_clips != 1:
            raise ValueError(
                f"num_clips={self.num_clips} are over the whole video, but a window is one clip: give only one of "
                "num_clips and window."
            )
        if self.window is not None and (self.start, self.end) != (None, None):
            raise ValueError("windows are of the whole video: give start and end with clips.")
        if self.window is None and self.all_frames:
            raise ValueError("all_frames=True is for a plan with windows: say how long a window is.")

    @property
    def frames_per_clip(self) -> int:
        """The number of frames of each clip.

        Raises:
            ValueError: `num_frames` is None.
        """
        if self.num_frames is None:
            raise ValueError("num_frames=None: say how many frames a clip has.")
        return self.num_frames


class PlannedClips(Sequence[Clip]):
    """The sequence of one video's clips, computed on access.

    Args:
        plan: the clips to choose.
        reader: the video.

    Raises:
        VideoError: the video has several windows that are shorter than two of its frames; or it ends before
            `plan.start`, or a clip exceeds the memory limit.
        ValueError: `plan.num_frames` is None.
    """

    def __init__(self, plan: ClipPlan, reader: VideoReader) -> None:
        self._plan, self._source, self._num_frames = plan, reader.source, plan.frames_per_clip
        self._used_frames = reader.used_frames
        self._duration, self._frames_in_video = reader.duration, reader.num_frames
        self._timeline = timeline_of(reader, plan.sampling, start=plan.start)
        check_memory(reader, self._num_frames)
        if plan.window is None:
            self._frames_in_part = len(self._timeline.frames(start=plan.start, end=plan.end))
            self._count = plan.num_clips
            if plan.num_clips > self._frames_in_part:  # then some clips are equal
                check_memory(reader, plan.num_clips * self._num_frames)
            return
        self._window, self._stride = plan.window, plan.stride or plan.window
        is_still = reader.num_frames == 1
        self._count, self._last_end = (1, self._duration) if is_still else cut_windows(self._duration, plan)
        if self._count > 1 and self._window * reader.fps < _TWO_FRAMES:
            shortest = math.ceil(1000 * _TWO_FRAMES / reader.fps) / 1000
            raise VideoError(
                reader.source,
                f"a window of {self._window:g} s is shorter than two of its frames ({reader.fps:.4g} frames a second): "
                f"choose a window of {shortest:g} s or more",
            )

    def __len__(self) -> int:
        return self._count

    @property
    def frames_per_clip(self) -> int:
        """The number of frames of each clip."""
        return self._num_frames

    def __getitem__(self, number: int) -> Clip:  # type: ignore[override]  # no slices
        if not 0 <= number < self._count:
            raise IndexError(number)
        plan = self._plan
        if plan.window is None:
            indices = self._choose_frames(plan.start, plan.end, number)
            end = self._duration if plan.end is None else min(plan.end, self._duration)
            return Clip(plan.start or 0.0, end, indices)
        start = number * self._stride
        end = self._last_end if number == self._count - 1 else start + self._window
        return Clip(start, end, self._choose_frames(start, end if end < self._duration else None))

    def first_frame(self, number: int) -> int:
        """Return the first frame in the part of a window; no frame before it is needed by this window or a later one.

        The number of the last window plus 1 gives the number of frames of the video.
        """
        if number >= self._count:
            return self._frames_in_video
        begin = self._timeline.frames(start=number * self._stride).start if number else 0
        return self._used_frames([begin])[0]

    def can_sweep(self, reader: VideoReader, *, bytes_kept: int | None = None) -> bool:
        """Return whether the clips are windows that can be read in one pass over the video.

        The caller keeps frames until no later window needs them, which may be too many if long windows begin shortly
        after each other.

        Args:
            reader: the video.
            bytes_kept: see `reading.read_planned`.
        """
        if self._plan.window is None:
            return False
        most = min(self._frames_in_video, self._count * self._num_frames, most_frames_kept(self._plan))
        if bytes_kept is None:
            return most <= self._num_frames or most * reader.height * reader.width * 3 <= _PIECE_BYTES
        return most * bytes_kept <= _PIECE_BYTES

    def _choose_frames(self, start: float | None, end: float | None, number: int = 0) -> tuple[int, ...]:
        plan, num_frames = self._plan, self._num_frames
        if plan.short == "error":
            count = len(self._timeline.frames(start=start, end=end))
            if count < num_frames:
                raise VideoError(
                    self._source, f"only {count} frames are available and {num_frames} are asked for: ask for fewer"
                )
        chosen = self._timeline.clip(
            num_frames=num_frames, number=number, num_clips=plan.num_clips, start=start, end=end, short=plan.short
        )
        return tuple(self._used_frames(chosen))

    def group(self, first: int, reader: VideoReader, *, bytes_kept: int | None = None) -> list[Clip]:
        """Return the clips, from number `first` on, that are read together: those that fit into 256 MiB.

        Args:
            first: number of the first clip.
            reader: the video.
            bytes_kept: see `reading.read_planned`.
        """
        if first >= self._count:
            return []
        if self._count == 1:
            return [self[0]]  # whatever the size of its frames
        bytes_per_frame = reader.height * reader.width * 3
        if bytes_kept is not None:
            bytes_per_frame = min(bytes_per_frame, bytes_kept)
        has_windows = self._plan.window is not None
        count = _GROUP_WINDOWS if has_windows else _GROUP_CLIPS
        # clips over the video share its frames, which may fit all together
        if has_windows or self._frames_in_part * bytes_per_frame > _PIECE_BYTES:
            count = min(count, _PIECE_BYTES // (self._num_frames * bytes_per_frame))
        return [self[i] for i in range(first, min(first + max(1, count), self._count))]


def cut_windows(duration: float, plan: ClipPlan) -> tuple[int, float]:
    """Return the number of a plan's windows in so many seconds, and the end of the last one.

    `ClipPlan` describes the rule. In a longer video, all windows but the last are the same.
    """
    if plan.window is None:
        raise ValueError("window=None: say how long a window is.")
    window, stride = plan.window, plan.stride or plan.window
    full = math.floor((duration - window + _ROUNDING_S) / stride) + 1
    if full < 1:
        return 1, duration
    end = (full - 1) * stride + window
    half = window / 2 - _ROUNDING_S
    if duration - end < half:
        return full, duration
    if duration - full * stride < half:
        return full, end
    return full + 1, duration


def most_frames_kept(plan: ClipPlan) -> int:
    """Return the most frames that the windows of a plan share or wait for at a time."""
    if plan.window is None:
        raise ValueError("window=None: say how long a window is.")
    return plan.frames_per_clip * (int(_LONGEST_WINDOW * plan.window / (plan.stride or plan.window)) + 2)


def frames_needed(clips: Sequence[Clip]) -> list[int]:
    """Return the indices of the frames that some clips need, each once, ascending."""
    return sorted({index for clip in clips for index in clip.indices})


def next_indices(
    clips: Sequence[Clip], reader: VideoReader, *, sent: int = 0, bytes_kept: int | None = None
) -> tuple[list[int], int]:
    """Return the indices of the frames to read next for a group of clips, and the number of frames left after them.

    Args:
        clips: the clips.
        reader: the video.
        sent: number of the clips' frames that have been read.
        bytes_kept: see `reading.read_planned`. If it is given, at most 256 MiB are read, unless there is only one clip.
    """
    indices = frames_needed(clips)[sent:]
    count = len(indices)
    if bytes_kept is not None and len(clips) > 1:
        count = max(1, _PIECE_BYTES // (reader.height * reader.width * 3))
    return indices[:count], max(0, len(indices) - count)


def timeline_of(reader: VideoReader, sampling: Sampling, *, start: float | None = None) -> Timeline:
    """Return the timeline of an open video.

    Raises:
        VideoError: the video ends at or before `start`, in seconds.
    """
    if start is not None and start >= reader.duration:
        raise VideoError(reader.source, f"it ends at {reader.duration:.2f} s, before start={start} s")
    return Timeline(reader.times, duration=reader.duration, tick=reader.tick, sampling=sampling)


def check_memory(reader: VideoReader, count: int) -> None:
    """Raise a `VideoError` if very many frames exceed the memory limit, before their indices are listed."""
    if count > _MANY:
        reader.limits.check_memory(reader.source, count=count, height=reader.height, width=reader.width)
