"""OpenTimelineIO's JSON (opentimelineio.readthedocs.io): a clip for each video, with a marker for each segment.

It is written without the package opentimelineio, which has no wheels for some versions of Python and isn't needed here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from openxclip.common.files import without_nan
from openxclip.timelines.formats.frames import frame_range, num_frames_of, timed_segments, video_rate
from openxclip.timelines.formats.texts import clean_labels, media_url, name_of, one_line, stem_of
from openxclip.timelines.results import TimelineData

_COLORS = ("BLUE", "GREEN", "RED", "CYAN", "YELLOW", "MAGENTA", "PURPLE", "ORANGE", "PINK")


def format_otio(timelines: Sequence[TimelineData], notes: list[str]) -> str:
    """Return timelines as OpenTimelineIO: one Timeline, or a SerializableCollection of several.

    Notes about what it can't hold are added to `notes`.
    """
    texts = clean_labels(timelines, one_line, "a marker has it in one line without control characters", notes)
    found = [_timeline(timeline, texts, notes) for timeline in timelines]
    collection = {"OTIO_SCHEMA": "SerializableCollection.1", "name": "openxclip", "metadata": {}, "children": found}
    return json.dumps(found[0] if len(found) == 1 else collection, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _timeline(timeline: TimelineData, texts: dict[str, str], notes: list[str]) -> dict[str, Any]:
    rate = video_rate(timeline, notes)
    num_frames = num_frames_of(timeline, rate)
    colors = {label: _COLORS[number % len(_COLORS)] for number, label in enumerate(timeline.labels)}
    markers = []
    for segment in timed_segments(timeline, notes):
        first, end = frame_range(segment, rate, num_frames)
        stored = {"label": texts[segment.label], "score": segment.score, "peak": segment.peak}
        markers.append(
            {
                "OTIO_SCHEMA": "Marker.2",
                "name": texts[segment.label],
                "color": colors.get(segment.label, _COLORS[0]),
                "marked_range": _range(first, end, rate),
                "metadata": {"openxclip": without_nan(stored)},
            }
        )
    source = _range(0, num_frames, rate)
    media = {"OTIO_SCHEMA": "ExternalReference.1", "target_url": media_url(timeline.path), "available_range": source}
    clip = {
        "OTIO_SCHEMA": "Clip.1",  # readers of Clip.2 read it too
        "name": one_line(name_of(timeline.path)),
        "source_range": source,
        "media_reference": media,
        "markers": markers,
        "effects": [],
        "metadata": {},
    }
    track = {"OTIO_SCHEMA": "Track.1", "name": "V1", "kind": "Video", "children": [clip], "metadata": {}}
    stack = {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": [track], "metadata": {}}
    name = one_line(stem_of(timeline.path))
    return {"OTIO_SCHEMA": "Timeline.1", "name": name, "tracks": stack, "metadata": {}}


def _range(first: int, end: int, rate: Fraction) -> dict[str, Any]:
    def frames(value: int) -> dict[str, Any]:
        return {"OTIO_SCHEMA": "RationalTime.1", "rate": float(rate), "value": float(value)}

    return {"OTIO_SCHEMA": "TimeRange.1", "start_time": frames(first), "duration": frames(end - first)}
