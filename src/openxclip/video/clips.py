"""Choose which clips, and which of their frames, stand for a video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from openxclip.errors import VideoError
from openxclip.video.decoding import VideoReader
from openxclip.video.sampling import Sampling, Short, Timeline, check_sampling, check_short, check_stretch

_MANY = 10_000  # frames; for more, the limit of memory is checked before their indices are listed
_PIECE_BYTES = 256 << 20  # of decoded frames. Smaller pieces are more pieces, and each starts at a key frame before it
_PIECE_WINDOWS = 32  # as many as may be read within the limit of time
_PIECE_CLIPS = 4096  # clips over the whole video share frames: the fewer pieces, the fewer decodes of the whole video
_SHORTEST_S = 0.001
_ROUNDING_S = 1e-6  # times that differ by less are equal
_TWO_FRAMES = 1.999  # containers round the times of frames, to milliseconds at the coarsest

#: Version of the rule that cuts videos into windows (see `ClipPlan`); features of two versions must not be mixed.
WINDOW_RULE = 2


class Clip(NamedTuple):
    """A part of a video and the frames that stand for it.

    Attributes:
        start, end: the part, in seconds.
        indices: indices of its frames in the video.
    """

    start: float
    end: float
    indices: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """Which clips stand for a video: several over all of it or a part of it, or one for each window.

    Windows begin at 0, `stride`, 2 `stride`, … seconds. Those that end before the video does have their full length. A
    video shorter than a window is one window, and so is a single frame. Otherwise the remainder is what follows the
    last full window:

    - shorter than half a window, it is joined to that window, which then ends with the video;
    - else the next window is added, cut off at the end of the video. With a `stride` longer than a window, some of the
      remainder is a gap, as between any two windows; if less than half a window is left after the gap, none is added.

    So every window is between half a window and one and a half windows long, unless the whole video is shorter. A
    window's frames are those of `read_clip(start=…, end=…)`. A window must hold two frames of the video; `PlannedClips`
    checks that, because it depends on the video's frame rate.

    Attributes:
        num_frames: frames of each clip; None is the number that the model was trained with.
        num_clips: clips over the video (see `sampling.sample_clips`), if there is no `window`.
        window: seconds of a window.
        stride: seconds from the start of a window to the start of the next; default is `window`.
        sampling: how the frames of a clip are chosen, see `sampling.Timeline`.
        start, end: the part of the video that is used, in seconds; not with `window`.
        short: which frames stand for a part with fewer than `num_frames` frames, see `sampling.sample_uniform`.

    Raises:
        ValueError: a value is out of its range, or two values exclude each other.
    """

    num_frames: int | None = None
    num_clips: int = 1
    window: float | None = None
    stride: float | None = None
    sampling: Sampling = "time"
    start: float | None = None
    end: float | None = None
    short: Short = "spread"

    def __post_init__(self) -> None:
        for name in ("num_frames", "num_clips"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name}={number}: must be 1 or more.")
        for name in ("window", "stride"):
            seconds = getattr(self, name)
            if seconds is not None and not _SHORTEST_S <= seconds < math.inf:
                raise ValueError(f"{name}={seconds}: must be {_SHORTEST_S:g} seconds or more.")
        check_sampling(self.sampling)
        check_short(self.short)
        check_stretch(self.start, self.end)
        if self.window is None and self.stride is not None:
            raise ValueError(f"stride={self.stride:g} is from one window to the next: say how long a window is.")
        if self.window is not None and self.num_clips != 1:
            raise ValueError(
                f"num_clips={self.num_clips} are over the whole of a video, but a window is one clip: choose clips or "
                "windows."
            )
        if self.window is not None and (self.start, self.end) != (None, None):
            raise ValueError("windows are of the whole video: give start and end with clips.")

    @property
    def frames_per_clip(self) -> int:
        """The number of frames of a clip, if the plan says it.

        Raises:
            ValueError: `num_frames` is None.
        """
        if self.num_frames is None:
            raise ValueError("num_frames=None: say how many frames a clip has.")
        return self.num_frames


class PlannedClips(Sequence[Clip]):
    """The clips of one video; each is computed when it is asked for.

    Args:
        plan: which clips.
        reader: the video.

    Raises:
        VideoError: the video has several windows, and they are shorter than two of its frames; or it ends before
            `plan.start`, or a clip takes more memory than the limit.
        ValueError: the plan has no `num_frames`.
    """

    def __init__(self, plan: ClipPlan, reader: VideoReader) -> None:
        self._plan, self._source, self._num_frames = plan, reader.source, plan.frames_per_clip
        self._duration = reader.duration
        self._timeline = timeline_of(reader, plan.sampling, start=plan.start)
        check_memory(reader, self._num_frames)
        if plan.window is None:
            self._frames_in_part = len(self._timeline.frames(start=plan.start, end=plan.end))
            self._count = plan.num_clips
            if plan.num_clips > self._frames_in_part:  # some clips are the same
                check_memory(reader, plan.num_clips * self._num_frames)
            return
        self._is_still = reader.num_frames == 1
        self._window, self._stride = plan.window, plan.stride or plan.window
        self._count, self._last_end = self._cut_windows()
        if self._count > 1 and self._window * reader.fps < _TWO_FRAMES:
            shortest = math.ceil(1000 * _TWO_FRAMES / reader.fps) / 1000
            raise VideoError(
                reader.source,
                f"a window of {self._window:g} s is shorter than two of its frames ({reader.fps:.4g} frames a second): "
                f"choose a window of {shortest:g} s or more",
            )

    def _cut_windows(self) -> tuple[int, float]:
        """Return the number of windows and the end of the last one, by the rule in `ClipPlan`."""
        full = math.floor((self._duration - self._window + _ROUNDING_S) / self._stride) + 1
        if full < 1 or self._is_still:
            return 1, self._duration
        end = (full - 1) * self._stride + self._window
        half = self._window / 2 - _ROUNDING_S
        if self._duration - end < half:
            return full, self._duration
        if self._duration - full * self._stride < half:
            return full, end
        return full + 1, self._duration

    def __len__(self) -> int:
        return self._count

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

    def _choose_frames(self, start: float | None, end: float | None, number: int = 0) -> tuple[int, ...]:
        plan, num_frames = self._plan, self._num_frames
        if plan.short == "error":
            count = len(self._timeline.frames(start=start, end=end))
            if count < num_frames:
                raise VideoError(
                    self._source, f"it has {count} frames there and {num_frames} are asked for: ask for fewer"
                )
        return tuple(
            self._timeline.clip(
                num_frames=num_frames, number=number, num_clips=plan.num_clips, start=start, end=end, short=plan.short
            )
        )

    def piece(self, first: int, reader: VideoReader, *, bytes_kept: int | None = None) -> list[Clip]:
        """Return the clips from number `first` on that are read together: as many as have 256 MiB of frames.

        Args:
            first: number of the first clip.
            reader: the video.
            bytes_kept: see `reading.read_planned`.
        """
        if self._count == 1:
            return [self[0]] if first == 0 else []  # the size of its frames doesn't matter
        bytes_of_frame = reader.height * reader.width * 3
        if bytes_kept is not None:
            bytes_of_frame = min(bytes_of_frame, bytes_kept)
        fitting, most = _PIECE_BYTES // (self._num_frames * bytes_of_frame), _PIECE_WINDOWS
        if self._plan.window is None:
            most = _PIECE_CLIPS
            if self._frames_in_part * bytes_of_frame <= _PIECE_BYTES:  # all frames that any clip can have
                fitting = most
        return [self[i] for i in range(first, min(first + max(1, min(fitting, most)), self._count))]


def frames_needed(clips: Sequence[Clip]) -> list[int]:
    """Return the indices of the frames of some clips, each once, ascending."""
    return sorted({index for clip in clips for index in clip.indices})


def next_run(
    clips: Sequence[Clip], reader: VideoReader, *, sent: int = 0, bytes_kept: int | None = None
) -> tuple[list[int], int]:
    """Return the indices of a piece's frames that are read next, and the number of frames that follow them.

    Args:
        clips: the clips of the piece.
        reader: the video.
        sent: how many frames of the piece have been read.
        bytes_kept: see `reading.read_planned`. With it a run takes 256 MiB, unless the piece is one clip.
    """
    indices = frames_needed(clips)[sent:]
    most = len(indices)
    if bytes_kept is not None and len(clips) > 1:
        most = max(1, _PIECE_BYTES // (reader.height * reader.width * 3))
    return indices[:most], len(indices[most:])


def timeline_of(reader: VideoReader, sampling: Sampling, *, start: float | None = None) -> Timeline:
    """Return the timeline of an open video.

    Raises:
        VideoError: the video ends before `start`, in seconds.
    """
    if start is not None and start >= reader.duration:
        raise VideoError(reader.source, f"it ends at {reader.duration:.2f} s, before start={start} s")
    return Timeline(reader.times, duration=reader.duration, tick=reader.tick, sampling=sampling)


def check_memory(reader: VideoReader, count: int) -> None:
    """Refuse many frames that take more memory than the limit, before a list of their indices is made."""
    if count > _MANY:
        reader.limits.check_memory(reader.source, count=count, height=reader.height, width=reader.width)
