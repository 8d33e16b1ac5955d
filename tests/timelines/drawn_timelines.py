"""Timelines with made-up scores, to draw and to cut."""

from __future__ import annotations

import numpy as np

from openxclip.errors import VideoError
from openxclip.timelines.results import Segment, TimelineData


def drawn_timeline(
    *labels: str,
    path: str = "film.mp4",
    duration: float = 20.0,
    until: float | None = None,
    stride: float = 0.5,
    cuts: tuple[float, ...] | None = None,
    error: VideoError | None = None,
) -> TimelineData:
    """A timeline whose labels, one after the other, are seen for a twentieth of the video."""
    until = duration if until is None else until
    starts = np.arange(0, until - 1.4, stride)
    ends = np.minimum(starts + 1.5, until)
    scores = np.full((len(starts), len(labels)), 0.1, np.float32)
    segments = []
    for k, label in enumerate(labels):
        start = (k + 0.5) % 19 * duration / 20
        scores[(starts >= start) & (starts < start + duration / 20), k] = 0.9
        segments.append(Segment(label=label, start=start, end=start + duration / 20, score=0.9, peak=start))
    return TimelineData(
        path=path,
        labels=labels,
        starts=starts,
        ends=ends,
        scores=scores,
        segments=tuple(segments),
        thresholds=dict.fromkeys(labels, 0.5),
        duration=duration,
        fps=25.0,
        size=(96, 64),
        cuts=cuts,
        error=error,
    )


def timeline_of(path: object, *spans: tuple[str, float, float]) -> TimelineData:
    """A timeline with only segments: label, start and end of each."""
    segments = tuple(Segment(label=label, start=start, end=end, score=0.9, peak=start) for label, start, end in spans)
    return TimelineData(path=str(path), labels=tuple(dict.fromkeys(s.label for s in segments)), segments=segments)
