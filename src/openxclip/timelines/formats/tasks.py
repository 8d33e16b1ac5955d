"""The JSON files of tools for annotation and evaluation: Label Studio, FiftyOne and QVHighlights."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from openxclip.common.counting import counted
from openxclip.timelines.formats.frames import frame_range, num_frames_of, seconds_of, timed_segments, video_rate
from openxclip.timelines.formats.texts import stem_of, stored_labels, stored_path, valid_text
from openxclip.timelines.results import Segment, TimelineData

#: The names of the tags in the labelling configuration of a Label Studio project.
LABEL_STUDIO_TAGS = ("timelineLabels", "video")

_CLIP = 2.0  # seconds; QVHighlights rates clips of this length


def format_label_studio(timelines: Sequence[TimelineData], notes: list[str]) -> str:
    """Return timelines as Label Studio tasks with predictions; notes are added to `notes`.

    A range has the numbers of its first and last frame, from 1 (labelstud.io/tags/timelinelabels).
    """
    from_name, to_name = LABEL_STUDIO_TAGS
    texts = stored_labels(timelines, notes)
    tasks = []
    for timeline in timelines:
        rate = video_rate(timeline, notes)
        num_frames = num_frames_of(timeline, rate)
        result: list[dict[str, Any]] = []
        for number, segment in enumerate(timed_segments(timeline, notes), 1):
            first, end = frame_range(segment, rate, num_frames)
            value = {"ranges": [{"start": first + 1, "end": end}], "timelinelabels": [texts[segment.label]]}
            region = {"id": f"segment{number}", "type": "timelinelabels", "from_name": from_name, "to_name": to_name}
            result.append(region | {"value": value} | _score("score", segment))
        scores = [region["score"] for region in result if "score" in region]
        prediction = {"model_version": "openxclip", "score": max(scores, default=0.0), "result": result}
        data = {"video": _given_path(timeline.path, notes), "fps": float(rate)}
        tasks.append({"data": data, "predictions": [prediction]})
    return _json(tasks, indent=2)


def format_fiftyone(timelines: Sequence[TimelineData], notes: list[str]) -> str:
    """Return timelines as FiftyOne's dataset of temporal detections; notes are added to `notes`.

    `support` has the numbers of the first and last frame, from 1. A video's key is its absolute path.
    """
    texts = stored_labels(timelines, notes)
    labels: dict[str, list[dict[str, Any]]] = {}
    for timeline in timelines:
        rate = video_rate(timeline, notes)
        num_frames = num_frames_of(timeline, rate)
        found = labels.setdefault(stored_path(timeline.path, notes), [])
        for segment in timed_segments(timeline, notes):
            first, end = frame_range(segment, rate, num_frames)
            detection = {"label": texts[segment.label], "support": [first + 1, end]}
            found.append(detection | _score("confidence", segment))
    return _json({"labels": labels}, indent=2)


def format_qvhighlights(timelines: Sequence[TimelineData], notes: list[str]) -> str:
    """Return timelines as predictions in the form of QVHighlights, a line for each video and label.

    `pred_saliency_scores` has the mean score of each clip of 2 seconds. Notes are added to `notes`.
    """
    texts = stored_labels(timelines, notes)
    stems = Counter(stem_of(timeline.path) for timeline in timelines)
    lines: list[str] = []
    empty = 0
    for timeline in timelines:
        stem = valid_text(stem_of(timeline.path))
        is_unique = stems[stem_of(timeline.path)] == 1
        segments = timed_segments(timeline, notes)
        for column, label in enumerate(timeline.labels):
            own = sorted((part for part in segments if part.label == label), key=lambda part: -_score_of(part))
            empty += not own
            row = {
                "qid": len(lines) + 1,
                "query": texts[label],
                "vid": stem if is_unique else _given_path(timeline.path, notes),
                "pred_relevant_windows": [
                    [round(part.start, 3), round(part.end, 3), round(_score_of(part), 6)] for part in own
                ],
                "pred_saliency_scores": [round(score, 6) for score in clip_scores(timeline, column)],
            }
            lines.append(_json(row))
    repeated = sum(count for count in stems.values() if count > 1)
    if repeated:
        notes.append(f"{counted(repeated, 'video')} share a name with another, so vid is the whole path.")
    if empty:
        notes.append(
            f"{empty} of {counted(len(lines), 'line')} with no window, which QVHighlights' evaluation script doesn't "
            "accept: lower the threshold to have one."
        )
    return "".join(lines)


def _score_of(segment: Segment) -> float:
    return segment.score if math.isfinite(segment.score) else 0.0


def clip_scores(timeline: TimelineData, column: int) -> list[float]:
    """Return the mean of a label's scores in each clip of 2 seconds, weighted by overlap; 0 where there is none."""
    num_clips = max(1, math.ceil(round(seconds_of(timeline), 3) / _CLIP))
    scores = np.asarray(timeline.scores[:, column], np.float64)
    valid = np.isfinite(scores)
    starts, ends, scores = timeline.starts[valid], timeline.ends[valid], scores[valid]
    times = _CLIP * np.arange(num_clips + 1)
    # windows before `low` end before a clip begins, and windows from `high` on begin after its end
    lows = np.searchsorted(np.maximum.accumulate(ends), times[:-1], "right")
    highs = np.searchsorted(starts, times[1:], "left")
    means = []
    for low, high, start in zip(lows, highs, times, strict=False):
        overlaps = np.minimum(ends[low:high], start + _CLIP) - np.maximum(starts[low:high], start)
        overlaps = np.maximum(overlaps, 0)
        total = float(overlaps.sum())
        means.append(float(overlaps @ scores[low:high]) / total if total > 0 else 0.0)
    return means


def _given_path(path: str, notes: list[str]) -> str:
    """Return the name of a video as it was given, which a relative path may need to be; as UTF-8, with a note."""
    if valid_text(path) != path:
        stored_path(path, notes)
    return valid_text(path)


def _score(name: str, segment: Segment) -> dict[str, float]:
    return {name: round(segment.score, 6)} if math.isfinite(segment.score) else {}


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
