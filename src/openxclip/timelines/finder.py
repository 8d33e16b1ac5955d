"""Score the windows of videos as they are read, and find segments at the end of each video."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from openxclip.config import TimeContract
from openxclip.errors import VideoError
from openxclip.model import VideoFeatures
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch, EncodedClip
from openxclip.recognition.classification import check_labels
from openxclip.timelines.scoring import LabelScorer
from openxclip.timelines.segments import SegmentOptions
from openxclip.timelines.shot_reading import ShotReading
from openxclip.timelines.shots import Shots
from openxclip.timelines.timeline import Timeline
from openxclip.video import ClipPlan, ReadOptions, VideoSource, source_name

#: Seconds of a window if neither an option nor the model says it, as for a new index.
DEFAULT_WINDOW = 10.0

OnClip = Callable[[str, float, float], object]


@dataclass
class _Windows:
    """The windows of one video that have been read.

    Attributes:
        starts, ends: bounds of the windows, in seconds.
        rows: for each window, the number of its row of scores; a window that repeats the one before has the same row.
        scores: rows of scores, some at a time.
        waiting: features of the windows whose rows come next.
        num_rows: number of rows, of the waiting windows too.
        cuts, duration, fps, size: see `Timeline`.
    """

    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    waiting: list[VideoFeatures] = field(default_factory=list)
    num_rows: int = 0
    cuts: tuple[float, ...] | None = None
    duration: float = math.nan
    fps: float = math.nan
    size: tuple[int, int] = (0, 0)


class TimelineFinder:
    """Finds when labels, which are encoded once, are seen in any number of videos.

    Args:
        pipeline: the model and its processor.
        labels: one or more labels.
        window: length of a window, in seconds; None is the contract's, and 10 if it states none.
        stride: seconds from the start of a window to the start of the next; None is the contract's, and half of the
            window if it states none or `window` is given.
        num_frames: frames of a window; None is the contract's, and the model's if it states none.
        options: how segments are found in the scores.
        template: the text that is encoded for a label, with `{}` for the label.
        neutral_texts: the texts that a label's score compares it with; None is the contract's.
        shots: "sampled" or "exact" finds cuts, and places windows between them so that none has frames of two shots
            (see `openxclip.timelines.shot_reading.ShotReading`); None doesn't look for cuts.
        contract: the settings that are used where no argument says otherwise; None is the model's own.
        on_text: called after some texts each time, with the number of labels and neutral texts encoded so far.

    Attributes:
        pipeline, labels, contract, options: the arguments.
        plan: the windows, with the defaults filled in.
        thresholds: threshold of each label.
        notes: sentences for the user about the settings.

    Raises:
        CheckpointError: the model's contract is invalid.
        MissingPackageError: `shots` needs scenedetect-headless, which isn't installed.
        ValueError: a label is empty or repeated, or there is none; or another argument is invalid.
    """

    def __init__(
        self,
        pipeline: VideoPipeline,
        labels: Sequence[str],
        *,
        window: float | None = None,
        stride: float | None = None,
        num_frames: int | None = None,
        options: SegmentOptions | None = None,
        template: str = "{}",
        neutral_texts: Sequence[str] | None = None,
        shots: Shots | None = None,
        contract: TimeContract | None = None,
        on_text: Callable[[int], object] = lambda done: None,
    ) -> None:
        self.pipeline, self.labels = pipeline, tuple(check_labels(labels))
        self.options = options or SegmentOptions()
        self._shot_reading = None if shots is None else ShotReading(shots)
        self._stated_by = (pipeline.name or "the model") if contract is None else "the contract"
        contract = pipeline.contract if contract is None else contract
        if neutral_texts is not None:
            contract = replace(contract, neutral_texts=tuple(neutral_texts))
        self.contract, self.notes = contract, tuple[str, ...]()
        self.plan = self._plan(window, stride, num_frames)
        own = self.options.threshold
        self.thresholds = {label: contract.threshold_of(label) if own is None else own for label in self.labels}
        if own is None:
            self._check_calibrated_windows()
        for label, threshold in self.thresholds.items():
            self.options.stop_of(label, threshold)
        self.scorer = LabelScorer(
            pipeline, self.labels, template=template, neutral_texts=contract.neutral_texts, on_text=on_text
        )

    def _plan(self, window: float | None, stride: float | None, num_frames: int | None) -> ClipPlan:
        given = self.contract.windows(window=window, stride=stride, num_frames=num_frames)
        seconds = DEFAULT_WINDOW if given.window is None else given.window
        between = seconds / 2 if given.stride is None else given.stride
        if given.window is None:
            self.notes += (
                f"{self._stated_by} states no window for timelines: windows of {seconds:g} s are used, one every "
                f"{between:g} s; window and stride set others.",
            )
        plan = ClipPlan(num_frames=given.num_frames, window=seconds, stride=between)
        if between > seconds:
            self.notes += (
                f"windows of {seconds:g} s begin every {between:g} s, so the {between - seconds:g} s between them "
                "are not looked at: choose a stride of at most the window.",
            )
        return plan

    def _check_calibrated_windows(self) -> None:
        """Note that calibrated thresholds don't fit, if they were chosen for other windows."""
        contract, plan = self.contract, self.plan
        own = (contract.window, contract.stride_seconds)
        if any(label in contract.labels for label in self.labels) and own != (plan.window, plan.stride):
            calibrated = "other windows" if own[0] is None else f"windows of {own[0]:g} s, one every {own[1]:g} s"
            self.notes += (
                f"the labels' thresholds were calibrated for {calibrated}, not {plan.window:g} s, one every "
                f"{plan.stride:g} s: false alarms may be more or less frequent; calibrate again for these windows.",
            )

    def __call__(
        self,
        videos: Iterable[VideoSource],
        *,
        read: ReadOptions | None = None,
        batch: Batch = "auto",
        on_clip: OnClip = lambda path, end, duration: None,
    ) -> Generator[Timeline, None, None]:
        """Yield the timeline of each video, in the order given.

        Memory hardly grows with the length of a video: only the bounds and the scores of its windows are kept.

        Args:
            videos: as `sources` of `VideoPipeline.encode_clips`.
            read, batch: see `VideoPipeline.encode_clips`; a video that is cut off is read up to there.
            on_clip: called after each window with the video's name, the window's end and the video's duration, in
                seconds.

        Yields:
            A timeline for each video. If a video can't be read, or not to its end, the timeline has `error`, and the
            windows before it.

        Raises:
            ValueError: an argument is out of range; raised at the call, before any video is read.
        """
        read = replace(read or self.pipeline.read, allow_cut_off=True)
        clips = self.pipeline.encode_clips(
            videos, self.plan, read=read, batch=batch, skip_repeats=True, reading=self._shot_reading
        )
        return self._find(clips, on_clip)

    def _find(self, clips: Generator[EncodedClip, None, None], on_clip: OnClip) -> Generator[Timeline, None, None]:
        windows = _Windows()
        with closing(clips):
            for clip in clips:
                name = source_name(clip.source)
                if clip.features is None:
                    if self._shot_reading is not None:
                        windows.cuts = self._shot_reading.take_cuts(clip.source)
                    yield self._timeline(name, windows, clip.error)
                    windows = _Windows()
                    continue
                windows.starts.append(clip.start)
                windows.ends.append(clip.end)
                windows.duration, windows.fps, windows.size = clip.duration, clip.fps, clip.size
                if not clip.is_repeat:
                    windows.waiting.append(clip.features)
                    windows.num_rows += 1
                windows.rows.append(windows.num_rows - 1)
                if len(windows.waiting) >= self.scorer.clips_at_once:
                    self._score(windows)
                on_clip(name, clip.end, clip.duration)

    def _score(self, windows: _Windows) -> None:
        windows.scores.append(self.scorer.score(windows.waiting))
        windows.waiting = []

    def _timeline(self, name: str, windows: _Windows, error: VideoError | None) -> Timeline:
        self._score(windows)
        return self.find_segments(
            Timeline(
                path=name,
                labels=self.labels,
                starts=np.array(windows.starts, np.float64),
                ends=np.array(windows.ends, np.float64),
                scores=np.concatenate(windows.scores)[windows.rows],
                window=self.plan.window or math.nan,
                stride=self.plan.stride or math.nan,
                thresholds=dict(self.thresholds),
                duration=windows.duration,
                fps=windows.fps,
                size=windows.size,
                cuts=windows.cuts,
                reused=len(windows.rows) - windows.num_rows,
                notes=self._notes_of(windows),
                error=error,
            )
        )

    def find_segments(self, timeline: Timeline) -> Timeline:
        """Return a timeline of these labels with its segments, by this finder's options and thresholds."""
        return replace(timeline, thresholds=dict(self.thresholds)).with_options(self.options)

    def _notes_of(self, windows: _Windows) -> tuple[str, ...]:
        window = self.plan.window or 0.0
        if windows.duration >= window or len(windows.starts) != 1:
            return self.notes
        return (
            *self.notes,
            f"the video lasts {windows.duration:.3g} s, less than a window of {window:g} s: it is one window, so a "
            "segment is the whole video.",
        )
