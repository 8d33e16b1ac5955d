"""Read the clips of videos, resized and cropped for the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from openxclip.video import ClipPlan, DecodeWorker, Frames, ReadOptions, VideoSource
from openxclip.video.clips import Clip, frames_needed
from openxclip.video.reading import read_planned

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
        is_featureless: whether the clip is of one colour or frozen; see `openxclip.processing.featureless`.
    """

    times: tuple[float, ...] = ()
    start: float = math.nan
    end: float = math.nan
    duration: float = math.nan
    size: tuple[int, int] = (0, 0)
    is_featureless: bool = False


class ReadClip(NamedTuple):
    """A clip that was read: uint8 levels (T, 3, H, W), resized and cropped for the model, and the clip's info."""

    levels_TCHW: Tensor  # noqa: N815
    info: ClipInfo


@dataclass(frozen=True)
class ClipReader:
    """Reads the clips of videos, and resizes their frames.

    Frames that shrink are resized as they are read, so that more of them fit in memory. Other frames are resized when
    their clips are returned, at most 32 clips at once.

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
        reader = read_planned if worker is None else worker.read_planned
        held = _HeldFrames(self.views, self.bytes_kept)
        for piece in reader(source, self.plan, first=first, bytes_kept=self.bytes_kept, read=self.read):
            held.add(piece.frames)
            clips, duration, is_complete = piece.clips, piece.duration, not piece.left
            del piece  # frees its frames before the next ones are read
            if is_complete:
                held.join_runs()
                for i in range(0, len(clips), _CLIPS_AT_ONCE):
                    yield held.read_clips(clips[i : i + _CLIPS_AT_ONCE], duration)
                held.clear()


class _HeldFrames:
    """The frames of some clips, which are read in one or more runs."""

    def __init__(self, views: Views, bytes_kept: int) -> None:
        self._views, self._bytes_kept = views, bytes_kept
        self._are_small, self._size = False, (0, 0)
        self.clear()

    def clear(self) -> None:
        """Drop all frames."""
        self._runs: list[list[Tensor]] = []  # the views of each run; small frames are kept unresized, as one view
        self._indices: list[int] = []
        self._times: list[float] = []

    def add(self, frames: Frames) -> None:
        """Add a run of frames."""
        frames_TCHW = frames.frames_THWC.permute(0, 3, 1, 2)
        height, width = frames_TCHW.shape[-2:]
        self._size, self._are_small = (width, height), 3 * height * width <= self._bytes_kept
        self._runs.append([frames_TCHW] if self._are_small else list(self._views(frames_TCHW)))
        self._indices += frames.indices
        self._times += frames.times_T.tolist()

    def join_runs(self) -> None:
        """Join the runs, once all frames of the clips have been added."""
        if len(self._runs) > 1:
            self._runs = [[torch.cat(runs) for runs in zip(*self._runs, strict=True)]]
        self._places = {index: place for place, index in enumerate(self._indices)}

    def read_clips(self, clips: Sequence[Clip], duration: float) -> list[ReadClip]:
        """Return some of the clips, resized, each once for every view."""
        (views,), places = self._runs, self._places
        if self._are_small:
            indices = frames_needed(clips)
            at = [places[index] for index in indices]
            views = list(self._views(views[0] if len(at) == len(self._indices) else views[0][at]))
            places = {index: place for place, index in enumerate(indices)}
        read: list[ReadClip] = []
        for clip in clips:
            times = tuple(self._times[self._places[index]] for index in clip.indices)
            info = ClipInfo(times, clip.start, clip.end, duration, self._size)
            at = [places[index] for index in clip.indices]
            read += [ReadClip(view[at], info) for view in views]
        return read
