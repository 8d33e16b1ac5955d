"""Read windows that follow the cuts of a video, in one pass."""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from openxclip.errors import VideoError
from openxclip.pipeline.clip_reading import ClipInfo, ClipReader, FrameRun, ReadClip
from openxclip.timelines.shots import CutDetector, Shots, ShotWindows, check_shots, load_detectors
from openxclip.video import ClipPlan, DecodeWorker, VideoSource
from openxclip.video.sampling import Timeline

_MOST_BYTES = 96 << 20  # of the frames that wait for their window
_CLIPS_AT_ONCE = 32
_LONGEST_WINDOW = 1.5  # windows; see `ClipPlan`


class ShotReading:
    """Reads the windows of each shot of a video: no window has frames of two shots. For `VideoPipeline.encode_clips`.

    Each shot is cut into windows like a video of its own, by the rule of `ClipPlan`: a shot shorter than a window is
    one window. What counts as a cut is described at `openxclip.timelines.shots.CutDetector`.

    - "sampled" looks only at the frames that the plan's windows need. So a cut lies somewhere between two of them, and
      half way is assumed. The frames of a window are the samples nearest to the middles of its segments.
    - "exact" decodes and compares all frames. The frames of a window are those of the same window without cuts. Of long
      windows, whose frames would take more than 96 MiB, only every second frame, or fewer, can be chosen.

    Memory doesn't grow with the length of a shot.

    Args:
        shots: "sampled" or "exact".

    Raises:
        ValueError: `shots` is neither.
        MissingPackageError: the package scenedetect-headless is not installed.
    """

    def __init__(self, shots: Shots) -> None:
        check_shots(shots)
        load_detectors()
        self.shots = shots
        # by the id of the source, which is kept so that the id stays its own; a video given twice has two entries
        self._cuts: dict[int, deque[tuple[VideoSource, tuple[float, ...]]]] = {}
        self._lock = threading.Lock()  # several threads read videos

    def __call__(
        self, reader: ClipReader, worker: DecodeWorker | None, source: VideoSource
    ) -> Generator[list[ReadClip], None, None]:
        """Yield the windows of a video, some at a time; see `openxclip.pipeline.clip_reading.ReadFrames`.

        Raises:
            ValueError: the plan has no windows, or chooses frames in a way that sampled frames don't allow.
            VideoError: the video can't be read, or not to its end; the windows before it have been yielded.
        """
        exact = self.shots == "exact"
        plan = replace(reader.plan, all_frames=exact)
        if not exact and (plan.sampling, plan.short) != ("time", "spread"):
            raise ValueError(
                f"sampling={plan.sampling!r} and short={plan.short!r} need every frame of a shot: "
                'use "time" and "spread", or shots="exact".'
            )
        stream, error = None, None
        try:
            with closing(replace(reader, plan=plan).read_frames(worker, source)) as runs:
                while True:
                    try:
                        run = next(runs, None)
                    except VideoError as stopped:
                        error = stopped
                        break
                    if run is None:
                        break
                    if stream is None:
                        stream = _ShotStream(plan, run, source)
                    yield from _some_at_a_time(stream.add(run))
                    del run  # before the next one is read
            if stream is not None:
                yield from _some_at_a_time(stream.finish(is_cut_off=error is not None))
            if error is not None:
                raise error
        finally:
            cuts = () if stream is None else tuple(stream.cuts)
            with self._lock:
                self._cuts.setdefault(id(source), deque()).append((source, cuts))

    def take_cuts(self, source: VideoSource) -> tuple[float, ...]:
        """Return the times of the cuts of a video that has been read, in seconds, and forget them.

        Args:
            source: the same object as the reading was given: `EncodedClip.source` at the end of a video.

        Raises:
            KeyError: the video hasn't been read, or its cuts have been taken.
        """
        with self._lock:
            waiting = self._cuts[id(source)]
            _, cuts = waiting.popleft()
            if not waiting:
                del self._cuts[id(source)]
        return cuts


def _some_at_a_time(clips: Iterator[ReadClip]) -> Iterator[list[ReadClip]]:
    """Yield lists of clips: the thread that reads waits when some lists are waiting, however few clips they have."""
    while some := list(itertools.islice(clips, _CLIPS_AT_ONCE)):
        yield some


class _Frame(NamedTuple):
    number: int  # in the video
    time: float
    levels_CHW: Tensor  # noqa: N815


class _ShotStream:
    """The frames of one video, from which windows are made as they come.

    Args:
        plan: the windows; with `all_frames`, cuts and frames are exact.
        run: the first frames, which tell about the video.
        source: name of the video.

    Attributes:
        cuts: times of the cuts so far, in seconds.
    """

    def __init__(self, plan: ClipPlan, run: FrameRun, source: VideoSource) -> None:
        self._plan, self._exact, self._source = plan, plan.all_frames, source
        self._duration, self._fps, self._size = run.duration, run.fps, run.size
        window, stride = plan.window or math.inf, plan.stride or plan.window or math.inf
        # seconds from a sample to the next; between windows that don't touch, there may be longer gaps
        self._step = window / plan.frames_per_clip if stride <= window else math.inf
        self._detector = CutDetector(fps=run.fps) if self._exact else CutDetector(still=2 * self._step)
        self._undecided: deque[_Frame] = deque()
        self._shot: list[_Frame] = []  # frames of the current shot that its next windows may need
        self._in_shot = self._seen = 0  # frames of the current shot, and of the video
        self._last = (-1, 0.0)  # number and time of the last frame
        self._windows = ShotWindows(plan, 0.0)
        self._one_of = self._frames_for_one_kept(run.levels_NCHW[0].nbytes)
        self.cuts: list[float] = []

    def _frames_for_one_kept(self, bytes_per_frame: int) -> int:
        window = self._plan.window or math.inf
        rate = self._plan.frames_per_clip / min(window, self._plan.stride or window)
        most = _LONGEST_WINDOW * window * (self._fps if self._exact else min(rate, self._fps))
        return max(1, math.ceil(most * bytes_per_frame / _MOST_BYTES)) if math.isfinite(most) else 1

    def add(self, run: FrameRun) -> Iterator[ReadClip]:
        """Take the next frames, and yield the windows that are certain with them."""
        for number, time, levels_CHW in zip(run.indices, run.times_N.tolist(), run.levels_NCHW, strict=True):
            self._undecided.append(_Frame(number, time, levels_CHW))
            self._seen += 1
            for is_cut in self._detector.add(levels_CHW, time):
                yield from self._advance(self._undecided.popleft(), is_cut=is_cut)

    def finish(self, *, is_cut_off: bool = False) -> Iterator[ReadClip]:
        """Yield the other windows. If the video is cut off, the last one ends with the last frame."""
        last = self._undecided[-1].time if self._undecided else self._last[1]
        end = self._duration
        if is_cut_off or not end > last:
            lasts = 1 / self._fps if self._exact else (self._plan.window or 0.0) / self._plan.frames_per_clip / 2
            end = min(last + lasts, end if end > last else math.inf)
        for is_cut in self._detector.finish(end):
            yield from self._advance(self._undecided.popleft(), is_cut=is_cut)
        # a still picture is one window, as without shots
        yield from self._clips([(0.0, end)] if self._seen == 1 else self._windows.finish(end), shot_end=end)

    def _advance(self, frame: _Frame, *, is_cut: bool) -> Iterator[ReadClip]:
        if is_cut:
            cut = self._cut_before(frame)
            yield from self._clips(self._windows.finish(cut), shot_end=cut)
            self.cuts.append(cut)
            self._windows = ShotWindows(self._plan, cut)
            self._shot, self._in_shot = [], 0
        if self._in_shot % self._one_of == 0:
            # frames of a run share its memory, which would stay as a whole if some are dropped
            self._shot.append(frame if self._one_of == 1 else frame._replace(levels_CHW=frame.levels_CHW.clone()))
        self._in_shot += 1
        self._last = (frame.number, frame.time)
        yield from self._clips(self._windows.ready(frame.time), shot_end=None)
        self._drop()

    def _cut_before(self, frame: _Frame) -> float:
        """Return the time of the cut between the last frame and this one."""
        number, time = self._last
        if frame.number == number + 1:
            return frame.time
        # if they are far apart, the last frame was shown when the samples between were due
        return max((time + frame.time) / 2, frame.time - self._step / 2)

    def _drop(self) -> None:
        """Drop the frames before the one that is shown when the next window begins."""
        start = self._windows.next_start
        needed = next((i for i, frame in enumerate(self._shot) if frame.time > start), len(self._shot))
        del self._shot[: max(0, needed - 1)]

    def _clips(self, bounds: list[tuple[float, float]], *, shot_end: float | None) -> Iterator[ReadClip]:
        for start, end in bounds:
            chosen = self._choose_exact(start, end, shot_end) if self._exact else self._choose_nearest(start, end)
            levels_TCHW = torch.stack([frame.levels_CHW for frame in chosen])
            times = tuple(frame.time for frame in chosen)
            yield ReadClip(levels_TCHW, ClipInfo(times, start, end, self._duration, self._size, fps=self._fps))

    def _choose_exact(self, start: float, end: float, shot_end: float | None) -> list[_Frame]:
        plan, times = self._plan, np.array([frame.time for frame in self._shot])
        timeline = Timeline(times, duration=max(end, times[-1] + 1e-3), sampling=plan.sampling)
        until = None if end == shot_end else end
        count = len(timeline.frames(start=start, end=until))
        if plan.short == "error" and count < plan.frames_per_clip:
            raise VideoError(
                self._source,
                f"only {count} frames are available in the shot at {start:.2f} s and {plan.frames_per_clip} are asked "
                "for: ask for fewer",
            )
        chosen = timeline.clip(num_frames=plan.frames_per_clip, start=start, end=until, short=plan.short)
        return [self._shot[i] for i in chosen]

    def _choose_nearest(self, start: float, end: float) -> list[_Frame]:
        count = self._plan.frames_per_clip
        middles = start + (2 * np.arange(count) + 1) * (end - start) / (2 * count)
        times = np.array([frame.time for frame in self._shot])
        return [self._shot[i] for i in np.abs(middles[:, None] - times).argmin(1)]
