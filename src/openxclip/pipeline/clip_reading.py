"""Read the clips of videos, resized and cropped for the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from openxclip.video import ClipPlan, DecodeWorker, Frames, ReadOptions, VideoSource
from openxclip.video.clips import Clip, frames_needed
from openxclip.video.reading import ClipPiece, read_planned

# Turns frames, uint8 (T, 3, H, W), into views, resized and cropped for the model. Each frame is processed by itself.
Views = Callable[[Tensor], Sequence[Tensor]]

_CLIPS_AT_ONCE = 32  # because the views of clips may take more memory than the frames that they share


class VideoPart(Protocol):
    """A part of a video, such as a sample of a dataset; the thread that reads it opens it.

    Attributes:
        source: the name of the video.
        start, end: bounds of the part, in seconds; None is the start or end of the video.
    """

    @property
    def source(self) -> str: ...  # noqa: D102 (attributes are described above)
    @property
    def start(self) -> float | None: ...  # noqa: D102
    @property
    def end(self) -> float | None: ...  # noqa: D102
    def open(self) -> str | bytes:
        """Return the path or the content of the video."""


@dataclass(frozen=True)
class ClipInfo:
    """What is known about a clip besides its frames.

    Attributes:
        times: times of the clip's frames, in seconds.
        start, end: the part of the video that the clip stands for, in seconds; NaN if unknown.
        duration: duration of the video, in seconds; NaN if unknown.
        size: width and height of the video's frames, in pixels; 0 if unknown.
        fps: average number of frames of the video per second; NaN if unknown.
        is_featureless: whether the clip is of one colour or frozen; see `openxclip.processing.featureless`.
    """

    times: tuple[float, ...] = ()
    start: float = math.nan
    end: float = math.nan
    duration: float = math.nan
    size: tuple[int, int] = (0, 0)
    fps: float = math.nan
    is_featureless: bool = False


class ReadClip(NamedTuple):
    """A clip that was read: uint8 levels (T, 3, H, W), resized and cropped for the model, and the clip's info."""

    levels_TCHW: Tensor  # noqa: N815
    info: ClipInfo


class FrameRun(NamedTuple):
    """Consecutive frames of a stream: those that a plan's windows need, or all frames of a video.

    Attributes:
        levels_NCHW: uint8 levels (N, 3, H, W), resized and cropped for the model.
        times_N: when each frame is shown, float64 seconds of shape (N,).
        indices: the indices of the frames in the video, ascending.
        duration: duration of the video, in seconds.
        fps: average number of frames of the video per second.
        size: width and height of the video's frames, in pixels.
    """

    levels_NCHW: Tensor  # noqa: N815
    times_N: Tensor  # noqa: N815
    indices: tuple[int, ...]
    duration: float
    fps: float
    size: tuple[int, int]


class ReadFrames(Protocol):
    """Reads the clips of a video in another way than `ClipReader.read_clips`, for example from `read_frames`.

    It is called in a thread that reads, once for each video.
    """

    def __call__(
        self, reader: ClipReader, worker: DecodeWorker | None, source: VideoSource
    ) -> Generator[list[ReadClip], None, None]:
        """Yield the clips of a video, some at a time.

        Args:
            reader: the reader of the plan.
            worker: the process that reads; None is this one.
            source: the video to read.
        """


@dataclass(frozen=True)
class ClipReader:
    """Reads the clips of videos, and resizes their frames.

    The frames of windows are resized as they are read, each once. Of clips over the whole video, frames that shrink are
    resized as they are read, so that more of them fit in memory; other frames are resized when their clips are
    returned, at most 32 clips at once.

    Attributes:
        plan: which clips to read.
        read: how to read videos.
        views: makes the views of frames, each by itself.
        bytes_kept: about how many bytes all views of a frame take.
    """

    plan: ClipPlan
    read: ReadOptions
    views: Views
    bytes_kept: int

    def read_clips(
        self, worker: DecodeWorker | None, source: VideoSource, *, first: int = 0
    ) -> Generator[list[ReadClip], None, None]:
        """Yield the clips of a video, some at a time, each once for every view; `is_featureless` isn't determined.

        Args:
            worker: the process that reads; None is this one.
            source: the video to read.
            first: clips to skip.
        """
        plan = replace(self.plan, all_frames=False)  # clips need no other frames than their own
        held = _HeldFrames(self.views, self.bytes_kept, resizes_late=plan.window is None)
        for piece in self._pieces(worker, source, plan, first=first, bytes_kept=self.bytes_kept):
            held.add(piece.frames)
            clips, keep_from, duration, fps = piece.clips, piece.keep_from, piece.duration, piece.fps
            del piece  # frees its frames before the next ones are read
            for i in range(0, len(clips), _CLIPS_AT_ONCE):
                yield held.read_clips(clips[i : i + _CLIPS_AT_ONCE], duration, fps)
            held.drop(keep_from)

    def read_frames(self, worker: DecodeWorker | None, source: VideoSource) -> Generator[FrameRun, None, None]:
        """Yield the frames of a video's windows, or with the plan's `all_frames` every frame, in one pass.

        Args:
            worker: the process that reads; None is this one.
            source: the video to read.

        Yields:
            Consecutive runs of frames, each frame once, in the order of the video.

        Raises:
            ValueError: the plan has no windows.
        """
        if self.plan.window is None:
            raise ValueError("window=None: frames are read for a plan with windows: say how long a window is.")
        for piece in self._pieces(worker, source, self.plan, first=0, bytes_kept=0):
            frames_TCHW = piece.frames.frames_THWC.permute(0, 3, 1, 2)
            height, width = frames_TCHW.shape[-2:]
            (levels,) = self.views(frames_TCHW)
            times, indices = piece.frames.times_T, piece.frames.indices
            run = FrameRun(levels, times, indices, piece.duration, piece.fps, (width, height))
            del piece, frames_TCHW, levels  # before the next ones are read
            yield run
            del run

    def _pieces(
        self, worker: DecodeWorker | None, source: VideoSource, plan: ClipPlan, *, first: int, bytes_kept: int
    ) -> Generator[ClipPiece, None, None]:
        reader = read_planned if worker is None else worker.read_planned
        return reader(source, plan, first=first, bytes_kept=bytes_kept, read=self.read)


class _HeldFrames:
    """The frames that clips need, until no later clip needs them.

    Args:
        views: makes the views of frames.
        bytes_kept: about how many bytes all views of a frame take.
        resizes_late: whether frames that take no more than `bytes_kept` are kept as they are until they are used.
    """

    def __init__(self, views: Views, bytes_kept: int, *, resizes_late: bool) -> None:
        self._views, self._bytes_kept, self._resizes_late = views, bytes_kept, resizes_late
        self._size = (0, 0)
        # by index in the video
        self._kept: dict[int, tuple[Tensor, ...]] = {}  # the views of each frame; or the frame, if it is resized late
        self._times: dict[int, float] = {}

    def add(self, frames: Frames) -> None:
        """Add frames."""
        frames_TCHW = frames.frames_THWC.permute(0, 3, 1, 2)
        height, width = frames_TCHW.shape[-2:]
        self._size = (width, height)
        self._resizes_late = self._resizes_late and 3 * height * width <= self._bytes_kept
        views = [frames_TCHW] if self._resizes_late else self._views(frames_TCHW)
        self._kept.update(zip(frames.indices, zip(*views, strict=True), strict=True))
        self._times.update(zip(frames.indices, frames.times_T.tolist(), strict=True))

    def drop(self, keep_from: int | None) -> None:
        """Drop the frames before `keep_from`; None drops all."""
        for index in [index for index in self._kept if keep_from is None or index < keep_from]:
            del self._kept[index], self._times[index]

    def read_clips(self, clips: Sequence[Clip], duration: float, fps: float) -> list[ReadClip]:
        """Return some of the clips, resized, each once for every view."""
        kept = self._kept
        if self._resizes_late:
            indices = frames_needed(clips)
            views = self._views(torch.stack([kept[index][0] for index in indices]))
            kept = dict(zip(indices, zip(*views, strict=True), strict=True))
        read: list[ReadClip] = []
        for clip in clips:
            times = tuple(self._times[index] for index in clip.indices)
            info = ClipInfo(times, clip.start, clip.end, duration, self._size, fps=fps)
            frames = [kept[index] for index in clip.indices]
            read += [ReadClip(torch.stack(view), info) for view in zip(*frames, strict=True)]
        return read
