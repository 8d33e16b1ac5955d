"""Compare timelines with annotations: metrics over all videos, by label and by query."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openxclip.timelines.annotations import AnnotatedVideo
from openxclip.timelines.formats.tasks import clip_scores
from openxclip.timelines.metrics import (
    DETECTION_LEVELS,
    RETRIEVAL_LEVELS,
    Counts,
    Found,
    average_precision,
    best_tiou,
    frame_average_precision,
    is_hit,
    match,
    query_average_precision,
)
from openxclip.timelines.results import TimelineData

MATCH_LEVEL = 0.5  # of tIoU, for F1 and the errors of bounds
R1_LEVELS = (0.5, 0.7)
FRAME_STEP = 0.1  # seconds from one frame to the next in the average precision over frames


class LabelScores(NamedTuple):
    """How one label was found.

    Attributes:
        moments: number of its moments in all videos.
        segments: number of its segments.
        matched: number of pairs of a segment and a moment with a tIoU of 0.5 or more.
        average_precision: average precision at each of `DETECTION_LEVELS`; NaN without moments.
        frame_average_precision: average precision over frames; NaN without moments or scores.
        false_alarms: number of its segments in videos in which it doesn't happen.
        absent_hours: duration of these videos, in hours.
    """

    moments: int
    segments: int
    matched: int
    average_precision: tuple[float, ...]
    frame_average_precision: float
    false_alarms: int
    absent_hours: float


@dataclass(frozen=True, kw_only=True)
class TimelineScores:
    """Metrics of timelines, from 0 to 1 where nothing else is said; NaN where nothing could be measured.

    Attributes:
        map: mean average precision over the labels that happen, at each of `DETECTION_LEVELS` of tIoU.
        counts: segments, moments, and the pairs of them with a tIoU of 0.5 or more, for precision, recall and F1.
        frame_map: mean over the labels that happen of the average precision over frames.
        r1: share of the queries whose best segment has this tIoU or more with one of the query's moments. A query is a
            label that happens in a video.
        query_map: mean over the queries of the average precision in their video, at each of `RETRIEVAL_LEVELS`.
        hit1: share of the rated queries whose clip of 2 seconds with the highest score one rater finds very good.
        false_alarms: segments of a label an hour, in videos in which it doesn't happen, over all labels.
        start_error, end_error: median distance of matched segments' bounds from the moments', in seconds.
        num_videos, num_queries, num_rated: number of videos, of queries, and of those with ratings.
        labels: the scores of each label.
    """

    map: dict[float, float]
    counts: Counts
    frame_map: float
    r1: dict[float, float]
    query_map: dict[float, float]
    hit1: float
    false_alarms: float
    start_error: float
    end_error: float
    num_videos: int
    num_queries: int
    num_rated: int
    labels: dict[str, LabelScores] = field(default_factory=dict, repr=False)

    @property
    def query_map_average(self) -> float:
        """Mean of `query_map` over the levels, as QVHighlights reports it."""
        return float(np.mean(list(self.query_map.values())))

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain JSON values, by name; None where nothing could be measured."""
        values = {
            **{f"mAP@{level:g}": value for level, value in self.map.items()},
            "F1@0.5": self.counts.f1,
            "precision@0.5": self.counts.precision,
            "recall@0.5": self.counts.recall,
            "frame_mAP": self.frame_map,
            **{f"R1@{level:g}": value for level, value in self.r1.items()},
            **{f"query_mAP@{level:g}": self.query_map[level] for level in (0.5, 0.75)},
            "query_mAP": self.query_map_average,
            "HIT@1": self.hit1,
            "false_alarms_per_hour": self.false_alarms,
            "start_error": self.start_error,
            "end_error": self.end_error,
        }
        return {name: None if math.isnan(value) else value for name, value in values.items()}


def score_timelines(pairs: Iterable[tuple[AnnotatedVideo, TimelineData]]) -> TimelineScores:
    """Compare timelines with the annotations of their videos.

    Args:
        pairs: for each video, its annotations and its timeline, which has all their labels.

    Raises:
        KeyError: a timeline lacks a label of the annotations.
    """
    by_label: dict[str, _OfLabel] = {}
    best, precisions, hits = list[float](), list[NDArray[np.float64]](), list[bool]()
    num_videos = 0
    for number, (video, timeline) in enumerate(pairs):
        num_videos += 1
        times = _frames(video, timeline)
        for label in video.labels:
            segments = timeline.segments_of(label)
            found = Found.of([(part.start, part.end) for part in segments], [part.score for part in segments])
            true_N2 = video.spans_of(label)
            scores_F = _scores_at(timeline, label, times)
            by_label.setdefault(label, _OfLabel()).add(number, true_N2, found, times, scores_F, _hours(video, timeline))
            if len(true_N2):
                best.append(best_tiou(found, true_N2))
                precisions.append(query_average_precision(found, true_N2))
            if label in video.ratings and len(timeline.starts) and timeline.scores.size:
                scores_C = clip_scores(timeline, timeline.labels.index(label))
                hits.append(is_hit(scores_C, video.ratings[label]))
    labels = {label: own.scores() for label, own in by_label.items()}
    happening = [own for own in labels.values() if own.moments]
    map_L = _mean([own.average_precision for own in happening], len(DETECTION_LEVELS))
    errors_E2 = np.array([error for own in by_label.values() for error in own.errors]).reshape(-1, 2)
    start_error, end_error = np.median(errors_E2, axis=0).tolist() if len(errors_E2) else (math.nan, math.nan)
    hours = sum(own.absent_hours for own in labels.values())
    query_map_L = _mean(precisions, len(RETRIEVAL_LEVELS))
    return TimelineScores(
        map=dict(zip(DETECTION_LEVELS, map_L, strict=True)),
        counts=Counts(
            *(sum(getattr(own, name) for own in labels.values()) for name in ("matched", "segments", "moments"))
        ),
        frame_map=_mean([[own.frame_average_precision] for own in happening], 1)[0],
        r1={level: float(np.mean([tiou >= level for tiou in best])) if best else math.nan for level in R1_LEVELS},
        query_map=dict(zip(RETRIEVAL_LEVELS, query_map_L, strict=True)),
        hit1=float(np.mean(hits)) if hits else math.nan,
        false_alarms=sum(own.false_alarms for own in labels.values()) / hours if hours else math.nan,
        start_error=start_error,
        end_error=end_error,
        num_videos=num_videos,
        num_queries=len(best),
        num_rated=len(hits),
        labels=labels,
    )


@dataclass
class _OfLabel:
    """What is collected of one label over all videos."""

    true: dict[Hashable, NDArray[np.float64]] = field(default_factory=dict)
    found: dict[Hashable, Found] = field(default_factory=dict)
    is_true: list[NDArray[np.bool_]] = field(default_factory=list)
    frame_scores: list[NDArray[np.float64]] = field(default_factory=list)
    errors: list[tuple[float, float]] = field(default_factory=list)
    false_alarms: int = 0
    absent_hours: float = 0.0

    def add(
        self,
        number: int,
        true_N2: NDArray[np.float64],
        found: Found,
        times_F: NDArray[np.float64],
        scores_F: NDArray[np.float64],
        hours: float,
    ) -> None:
        self.true[number], self.found[number] = true_N2, found
        self.is_true.append(_is_inside(times_F[: len(scores_F)], true_N2))
        self.frame_scores.append(scores_F)
        for m, n in match(found.spans, true_N2, MATCH_LEVEL):
            start, end = np.abs(found.spans[m] - true_N2[n]).tolist()
            self.errors.append((start, end))
        if not len(true_N2):
            self.false_alarms += len(found.scores)
            self.absent_hours += hours

    def scores(self) -> LabelScores:
        scores_F = np.concatenate(self.frame_scores)
        return LabelScores(
            moments=sum(map(len, self.true.values())),
            segments=sum(len(found.scores) for found in self.found.values()),
            matched=len(self.errors),
            average_precision=tuple(average_precision(self.true, self.found, DETECTION_LEVELS).tolist()),
            frame_average_precision=frame_average_precision(np.concatenate(self.is_true), scores_F),
            false_alarms=self.false_alarms,
            absent_hours=self.absent_hours,
        )


def _frames(video: AnnotatedVideo, timeline: TimelineData) -> NDArray[np.float64]:
    """Return the times of frames, `FRAME_STEP` apart, over the whole video."""
    times_F: NDArray[np.float64] = FRAME_STEP * np.add(
        np.arange(round(3600 * _hours(video, timeline) / FRAME_STEP)), 0.5
    )
    return times_F


def _hours(video: AnnotatedVideo, timeline: TimelineData) -> float:
    known = [seconds for seconds in (timeline.duration, video.duration) if seconds > 0]  # false for NaN
    ends = [float(timeline.ends.max())] if len(timeline.ends) else [segment.end for segment in timeline.segments]
    return (known[0] if known else max(ends, default=0.0)) / 3600


def _scores_at(timeline: TimelineData, label: str, times_F: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a label's score at these times, on straight lines between the middles of windows; () without scores."""
    if not timeline.scores.size:
        return np.zeros(0)
    column = timeline.labels.index(label)
    return np.asarray(np.interp(times_F, timeline.centers, timeline.scores[:, column]), np.float64)


def _is_inside(times_F: NDArray[np.float64], spans_N2: NDArray[np.float64]) -> NDArray[np.bool_]:
    is_inside_F = np.zeros(len(times_F), bool)
    for start, end in spans_N2:
        is_inside_F |= (times_F >= start) & (times_F < end)
    return is_inside_F


def _mean(rows: Sequence[Sequence[float] | NDArray[np.float64]], width: int) -> list[float]:
    """Return the mean of each column, without NaN; NaN for a column without values."""
    table = np.array(rows, np.float64).reshape(-1, width)
    return [float(column[~np.isnan(column)].mean()) if (~np.isnan(column)).any() else math.nan for column in table.T]
