"""Find when labels are seen in videos: score windows as they are read, and find segments at the end of each video."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openxclip.common.argument_names import takes_arguments_of
from openxclip.config import TimeContract
from openxclip.engine import Precision
from openxclip.errors import VideoError
from openxclip.hub import DEFAULT_MODEL
from openxclip.model import VideoFeatures
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch, EncodedClip, check_batch
from openxclip.pipeline.loading import as_pipeline
from openxclip.processing.sources import Videos, as_sources
from openxclip.recognition.classification import check_labels
from openxclip.timelines.contracts import as_contract
from openxclip.timelines.scoring import LabelScorer
from openxclip.timelines.segments import SegmentOptions
from openxclip.timelines.timeline import Timeline
from openxclip.video import ClipPlan, ReadOptions, VideoSource, find_videos, source_name

#: Seconds of a window if neither an option nor the model says it, as for a new index.
DEFAULT_WINDOW = 10.0

OnClip = Callable[[str, float, float], object]


@dataclass
class _Windows:
    """The windows of one video that have been read, and the scores of those that have been scored."""

    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    waiting: list[VideoFeatures] = field(default_factory=list)
    duration: float = math.nan
    size: tuple[int, int] = (0, 0)
    reused: int = 0


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
        contract: the settings that hold where no argument says otherwise; None is the model's own.
        on_text: called after some texts each time, with the number of labels and neutral texts encoded so far.

    Attributes:
        pipeline, labels, contract, options: the arguments.
        plan: the windows, with the defaults filled in.
        thresholds: threshold of each label.
        notes: sentences for the user about the settings.

    Raises:
        CheckpointError: the model's contract is invalid.
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
        contract: TimeContract | None = None,
        on_text: Callable[[int], object] = lambda done: None,
    ) -> None:
        self.pipeline, self.labels = pipeline, tuple(check_labels(labels))
        self.options = options or SegmentOptions()
        contract = pipeline.contract if contract is None else contract
        if neutral_texts is not None:
            contract = replace(contract, neutral_texts=tuple(neutral_texts))
        self.contract, self.notes = contract, tuple[str, ...]()
        self.plan = self._plan(window, stride, num_frames)
        own = self.options.threshold
        self.thresholds = {label: contract.threshold_of(label) if own is None else own for label in self.labels}
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
                f"{self.pipeline.name or 'the model'} states no window for timelines: windows of {seconds:g} s are "
                f"used, one every {between:g} s; window and stride set others.",
            )
        return ClipPlan(num_frames=given.num_frames, window=seconds, stride=between)

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
            read, batch: see `VideoPipeline.encode_clips`.
            on_clip: called after each window with the video's name, the window's end and the video's duration, in
                seconds.

        Yields:
            A timeline for each video. If a video can't be read, or not to its end, the timeline has `error`, and the
            windows before it.

        Raises:
            ValueError: an argument is out of range; raised at the call, before any video is read.
        """
        clips = self.pipeline.encode_clips(videos, self.plan, read=read, batch=batch)
        return self._find(clips, on_clip)

    def _find(self, clips: Generator[EncodedClip, None, None], on_clip: OnClip) -> Generator[Timeline, None, None]:
        windows = _Windows()
        with closing(clips):
            for clip in clips:
                name = source_name(clip.source)
                if clip.features is None:
                    yield self._timeline(name, windows, clip.error)
                    windows = _Windows()
                    continue
                windows.starts.append(clip.start)
                windows.ends.append(clip.end)
                windows.duration, windows.size = clip.duration, clip.size
                windows.waiting.append(clip.features)
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
                scores=np.concatenate(windows.scores),
                window=self.plan.window or math.nan,
                stride=self.plan.stride or math.nan,
                thresholds=dict(self.thresholds),
                duration=windows.duration,
                size=windows.size,
                reused=windows.reused,
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


def iter_timelines(
    paths: Videos,
    labels: Sequence[str],
    *,
    model: str | Path | VideoPipeline = DEFAULT_MODEL,
    window: float | None = None,
    stride: float | None = None,
    num_frames: int | None = None,
    threshold: float | None = None,
    stop: float | None = None,
    smooth: float | None = None,
    min_duration: float | None = None,
    merge_gap: float | None = None,
    template: str = "{}",
    neutral_texts: Sequence[str] | None = None,
    contract: TimeContract | str | Path | None = None,
    batch: Batch = "auto",
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    precision: Precision | None = None,
    isolate: bool | None = None,
    read: ReadOptions | None = None,
) -> Iterator[Timeline]:
    """Find when `labels` are seen in videos, and yield the timeline of each as soon as it is ready.

    Args:
        paths: one or more videos, see `openxclip.iter_classify`.
        labels: one or more labels. No label changes the score of another, and segments of labels may overlap.
        model: a folder, a hub id, or "mini", which knows only the rendered playground; or a loaded pipeline.
        window, stride, num_frames, template, neutral_texts: see `TimelineFinder`.
        threshold, stop, smooth, min_duration, merge_gap: see `SegmentOptions`.
        contract: a contract of time, or a JSON file with one, in place of the model's own.
        batch, read: see `VideoPipeline.encode_clips`.
        device, dtype, precision, isolate: see `VideoPipeline.from_pretrained`.

    Returns:
        An iterator over one timeline for each video, in order. If a video can't be read, or not to its end, its
        timeline has `error`, and the windows before it.

    Raises:
        ValueError, TypeError: an argument is invalid. This and the next are raised at the call, before any video is
            read.
        CheckpointError: the model can't be found or loaded.

    Examples:
        >>> import openxclip
        >>> labels = ["a cat moves left", "an owl vanishes"]
        >>> for timeline in openxclip.iter_timelines("samples", labels, model="mini"):
        ...     print(timeline.path, [segment.label for segment in timeline.segments])
        samples/cat_moves_left.mp4 ['a cat moves left']
        samples/eagle_picks_up_a_snake.mp4 []
        ...
    """
    labels = check_labels(labels)  # this and the next checks come before the model is loaded
    options = SegmentOptions(
        threshold=threshold, stop=stop, smooth=smooth, min_duration=min_duration, merge_gap=merge_gap
    )
    ClipPlan(num_frames=num_frames, window=window or DEFAULT_WINDOW, stride=stride)
    check_batch(batch)
    own_contract = None if contract is None else as_contract(contract)
    sources = as_sources(paths)
    pipeline = as_pipeline(model, device=device, dtype=dtype, precision=precision, isolate=isolate, read=read)
    finder = TimelineFinder(
        pipeline,
        labels,
        window=window,
        stride=stride,
        num_frames=num_frames,
        options=options,
        template=template,
        neutral_texts=neutral_texts,
        contract=own_contract,
    )
    return finder(find_videos(sources), read=read, batch=batch)


@takes_arguments_of(iter_timelines)
def timeline(*args: Any, **arguments: Any) -> Timeline:
    """Find when labels are seen in one video; the twin of `openxclip timeline`.

    Arguments are those of `iter_timelines`, which takes several videos.

    Returns:
        The timeline of the video. If the video can't be read to its end, it has `error`, and the windows before it.

    Raises:
        ValueError, TypeError, CheckpointError: as for `iter_timelines`; or `paths` is not one video.
        VideoError: the video can't be read.

    Examples:
        >>> import openxclip
        >>> timeline = openxclip.timeline("samples/cat_moves_left.mp4", ["a cat moves left"], model="mini")
        >>> [segment.label for segment in timeline.segments]
        ['a cat moves left']
    """
    found = list(itertools.islice(iter_timelines(*args, **arguments), 2))
    if len(found) != 1:
        number = "no video" if not found else "several videos"
        raise ValueError(f"{number}, but timeline takes one: iter_timelines takes any number.")
    if found[0].error is not None and not len(found[0].starts):
        raise found[0].error
    return found[0]
