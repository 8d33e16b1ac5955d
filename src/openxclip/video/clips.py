"""Which clips stand for a video, and reading them piece by piece: an hour takes no more memory than a minute."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from openxclip.errors import VideoError
from openxclip.video.choosing import check_many, timeline_of
from openxclip.video.decoding import VideoReader
from openxclip.video.frames import Frames
from openxclip.video.limits import DEFAULT_LIMITS, Limits
from openxclip.video.opening import VideoSource
from openxclip.video.sampling import Sampling, check_sampling

_PIECE_BYTES = 256 << 20  # of decoded frames; less makes more pieces, and each begins with the key frame before it
_PIECE_CLIPS = 32  # windows: as many as may be read within the limit of time
_PIECE_CLIPS_OVER_WHOLE = 4096  # these share frames: the fewer pieces, the fewer times the video is decoded
_SHORTEST_S = 0.001
_ROUNDING_S = 1e-6  # times that differ by less are the same
_TWO_FRAMES = 1.999  # containers round the times of frames, to milliseconds at the coarsest

#: The rule by which videos are cut into windows (see `ClipPlan`); features of two rules must not be mixed.
WINDOW_RULE = 2


class Clip(NamedTuple):
    """A stretch of a video and the frames that stand for it.

    Attributes:
        start, end: of the stretch, in seconds.
        indices: of its frames in the video.
    """

    start: float
    end: float
    indices: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """Which clips stand for a video: some over the whole of it, or one for each window of some seconds.

    Windows begin at 0, `stride`, 2 `stride`, … seconds, and those that end by the end of the video are whole. A video
    shorter than a window is one window, and so is a single frame. Otherwise the remainder is what follows the last
    whole window:

    - shorter than half a window, it is joined to that window, which then ends with the video;
    - else the next window is added, cut off at the end of the video. With a `stride` longer than a window, some of the
      remainder is a gap, as between any two windows; if less than half a window is left after the gap, none is added.

    So every window is between half a window and one and a half windows long, unless the whole video is shorter. Its
    frames are those of `read_clip(start=…, end=…)`. A window must hold two frames of the video; `PlannedClips` checks
    that, since the frame rate is the video's.

    Attributes:
        num_frames: of each clip.
        num_clips: clips over the whole of a video (see `sampling.sample_clips`), where there is no `window`.
        window: seconds of a window.
        stride: seconds from the start of a window to that of the next; default is `window`.
        sampling: how the frames of a clip are chosen, see `sampling.Timeline`.

    Raises:
        ValueError: a number that can't be, or clips and windows both.
    """

    num_frames: int
    num_clips: int = 1
    window: float | None = None
    stride: float | None = None
    sampling: Sampling = "time"

    def __post_init__(self) -> None:
        for name in ("num_frames", "num_clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be 1 or more.")
        for name in ("window", "stride"):
            seconds = getattr(self, name)
            if seconds is not None and not _SHORTEST_S <= seconds < math.inf:
                raise ValueError(f"{name}={seconds}: must be {_SHORTEST_S:g} seconds or more.")
        check_sampling(self.sampling)
        if self.window is None and self.stride is not None:
            raise ValueError(f"stride={self.stride:g} is from one window to the next: say how long a window is.")
        if self.window is not None and self.num_clips != 1:
            raise ValueError(
                f"num_clips={self.num_clips} are over the whole of a video, but a window is one clip: choose clips or "
                "windows."
            )


class PlannedClips(Sequence[Clip]):
    """The clips of one video, each made when it is asked for.

    Args:
        plan: which clips.
        reader: of the video.
        start, end: the part that clips over the whole are made of, in seconds; a plan with windows takes neither.

    Raises:
        VideoError: the video has several windows, and they are shorter than two of its frames; or it ends before
            `start`, or a clip takes more memory than its limit.
        ValueError: `start` or `end` can't be.
    """

    def __init__(
        self, plan: ClipPlan, reader: VideoReader, *, start: float | None = None, end: float | None = None
    ) -> None:
        if plan.window is not None and (start, end) != (None, None):
            raise ValueError("windows are of the whole video: give start and end with clips.")
        self.plan = plan
        self._duration, self._start, self._end = reader.duration, start, end
        self._timeline = timeline_of(reader, plan.sampling, start=start)
        check_many(reader, plan.num_frames)
        if plan.window is None:
            self._shown = len(self._timeline.frames(start=start, end=end))
            self._number = plan.num_clips
            if plan.num_clips > self._shown:  # so many that they repeat each other
                check_many(reader, plan.num_clips * plan.num_frames)
            return
        self._is_still = reader.num_frames == 1
        self._window, self._stride = plan.window, plan.stride or plan.window
        self._number, self._last_end = self._cut()
        if self._number > 1 and self._window * reader.fps < _TWO_FRAMES:
            shortest = math.ceil(1000 * _TWO_FRAMES / reader.fps) / 1000
            raise VideoError(
                reader.source,
                f"a window of {self._window:g} s is shorter than two of its frames ({reader.fps:.4g} frames a second): "
                f"choose a window of {shortest:g} s or more",
            )

    def _cut(self) -> tuple[int, float]:
        """How many windows there are, and where the last one ends."""
        whole = math.floor((self._duration - self._window + _ROUNDING_S) / self._stride) + 1
        if whole < 1 or self._is_still:
            return 1, self._duration
        end = (whole - 1) * self._stride + self._window
        enough = self._window / 2 - _ROUNDING_S
        if self._duration - end < enough:
            return whole, self._duration
        if self._duration - whole * self._stride < enough:
            return whole, end
        return whole + 1, self._duration

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, number: int) -> Clip:  # type: ignore[override]  # no slices
        if not 0 <= number < self._number:
            raise IndexError(number)
        plan, frames = self.plan, self.plan.num_frames
        if plan.window is None:
            indices = self._timeline.clip(
                num_frames=frames, number=number, num_clips=plan.num_clips, start=self._start, end=self._end
            )
            end = self._duration if self._end is None else min(self._end, self._duration)
            return Clip(self._start or 0.0, end, tuple(indices))
        start = number * self._stride
        end = self._last_end if number == self._number - 1 else start + self._window
        indices = self._timeline.clip(num_frames=frames, start=start, end=end if end < self._duration else None)
        return Clip(start, end, tuple(indices))

    def piece(self, first: int, reader: VideoReader, *, bytes_kept: int | None = None) -> list[Clip]:
        """The clips from number `first` on that are read together: so many that their frames take 256 MiB.

        Args:
            first: number of a clip.
            reader: of the video.
            bytes_kept: see `read_planned`.
        """
        if self._number == 1:
            return [self[0]] if first == 0 else []  # without looking how large its frames are
        bytes_of_frame = reader.height * reader.width * 3
        if bytes_kept is not None:
            bytes_of_frame = min(bytes_of_frame, bytes_kept)
        number, most = _PIECE_BYTES // (self.plan.num_frames * bytes_of_frame), _PIECE_CLIPS
        if self.plan.window is None:
            most = _PIECE_CLIPS_OVER_WHOLE
            if self._shown * bytes_of_frame <= _PIECE_BYTES:  # all frames that any clip can have
                number = most
        return [self[i] for i in range(first, min(first + max(1, min(number, most)), self._number))]


@dataclass(frozen=True)
class ClipPiece:
    """Some clips that follow each other, and frames that they need.

    Attributes:
        clips: one or more.
        frames: in the order of the video, each once: all that the clips need, or the next of them.
        duration: of the video, in seconds.
        left: how many frames the clips need that come with the next pieces, which have the same clips.
    """

    clips: tuple[Clip, ...]
    frames: Frames
    duration: float
    left: int = 0


def needed(clips: Sequence[Clip]) -> list[int]:
    """The frames of some clips, each once, ascending."""
    return sorted({index for clip in clips for index in clip.indices})


def next_run(
    clips: Sequence[Clip], reader: VideoReader, *, sent: int = 0, bytes_kept: int | None = None
) -> tuple[list[int], int]:
    """The frames of a piece that are read next, and how many of it follow them.

    Args:
        clips: of the piece.
        reader: of the video.
        sent: how many frames of the piece have been read.
        bytes_kept: see `read_planned`. With it a run takes 256 MiB, unless the piece is one clip.
    """
    wanted = needed(clips)[sent:]
    most = len(wanted)
    if bytes_kept is not None and len(clips) > 1:
        most = max(1, _PIECE_BYTES // (reader.height * reader.width * 3))
    return wanted[:most], len(wanted[most:])


def read_planned(
    source: VideoSource,
    plan: ClipPlan,
    *,
    first: int = 0,
    bytes_kept: int | None = None,
    start: float | None = None,
    end: float | None = None,
    fps: float | None = None,
    num_threads: int = 0,
    track: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    allow_protocols: Sequence[str] = (),
) -> Generator[ClipPiece, None, None]:
    """The clips of a video, a piece at a time.

    Clips over the whole of a video need frames from its beginning to its end, so each piece of clips takes a decode of
    all of it. A caller that makes frames small as they come gets more clips in a piece, and their frames in runs.

    Args:
        source: as for `VideoReader`.
        plan: which clips.
        first: how many of them to skip.
        bytes_kept: how many bytes of a frame the caller keeps until it has all frames of a piece; None is the frame
            itself.
        start, end: the part of the video, see `PlannedClips`.
        fps, num_threads, track, allow_protocols: as for `VideoReader`.
        limits: as there; `seconds` is for each piece.

    Raises:
        VideoError: as `VideoReader`.
        ValueError: an argument is out of its range.
    """
    with VideoReader(
        source, fps=fps, num_threads=num_threads, track=track, limits=limits, allow_protocols=allow_protocols
    ) as reader:
        planned = PlannedClips(plan, reader, start=start, end=end)
        while clips := planned.piece(first, reader, bytes_kept=bytes_kept):
            sent, left = 0, 1
            while left:
                run, left = next_run(clips, reader, sent=sent, bytes_kept=bytes_kept)
                sent += len(run)
                yield ClipPiece(tuple(clips), reader.get_frames(run), reader.duration, left)
            first += len(clips)
