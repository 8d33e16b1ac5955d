"""What a timeline is made of: scores of labels over time, and the segments in which they are seen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoError


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a video in which a label is seen.

    Attributes:
        label: the label.
        start, end: bounds, in seconds from the start of the video.
        score: the highest score of a window in it, from 0 to 1: the label's share against the neutral texts.
        peak: middle of the window with this score, in seconds.
    """

    label: str
    start: float
    end: float
    score: float
    peak: float

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start


@dataclass(frozen=True, eq=False, kw_only=True)
class TimelineData:
    """The scores of labels over a video's time, and the segments in which they are seen; see `Timeline`.

    Attributes:
        path: the name of the video as it was given.
        labels: the K labels.
        starts, ends: bounds of the W windows, in seconds, ascending, float64 of shape (W,). They may overlap.
        scores: the share of each label against the neutral texts in each window, before smoothing, float32 (W, K).
        window, stride: length of a window, and seconds from one window to the next, as asked for; NaN if unknown.
        segments: the segments of all labels, by start, then in the order of the labels.
        thresholds: the score from which a segment of each label begins, by label.
        duration: duration of the video in seconds; NaN if unknown.
        fps: frames of the video per second; NaN if unknown.
        size: width and height of the video's frames, in pixels; (0, 0) if unknown.
        cuts: times at which a shot ends and the next begins, in seconds; None if they weren't looked for.
        reused: number of windows whose frames were those of the window before, whose scores they got.
        notes: sentences for the user about what was assumed, left out or cut.
        error: why the video could not be read, or not to its end; the windows before are there. None if it could.
    """

    path: str
    labels: tuple[str, ...]
    starts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    ends: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    window: float = float("nan")
    stride: float = float("nan")
    segments: tuple[Segment, ...] = ()
    thresholds: dict[str, float] = field(default_factory=dict)
    duration: float = float("nan")
    fps: float = float("nan")
    size: tuple[int, int] = (0, 0)
    cuts: tuple[float, ...] | None = None
    reused: int = 0
    notes: tuple[str, ...] = ()
    error: VideoError | None = None

    def __post_init__(self) -> None:
        if not len(self.starts) and not self.scores.size:  # the default doesn't know the number of labels
            object.__setattr__(self, "scores", np.zeros((0, len(self.labels)), np.float32))

    @property
    def centers(self) -> NDArray[np.float64]:
        """Middles of the windows, in seconds, of shape (W,)."""
        return (self.starts + self.ends) / 2

    def segments_of(self, label: str) -> list[Segment]:
        """Return the segments of one label, by start.

        Raises:
            KeyError: the timeline has no such label.
        """
        if label not in self.labels:
            raise KeyError(label)
        return [segment for segment in self.segments if segment.label == label]
