"""FFmpeg's metadata files (ffmpeg.org/ffmpeg-formats.html#Metadata-2), with the segments as chapters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from openxclip.timelines.formats.frames import seconds_of, timed_segments
from openxclip.timelines.formats.texts import clean_labels, name_of, one_line
from openxclip.timelines.results import TimelineData

#: The title of a chapter in which no label is seen. MP4 stores only starts, so a chapter lasts until the next one.
NOTHING = "–"


def format_chapters(timelines: Sequence[TimelineData], notes: list[str]) -> str:
    """Return one timeline as chapters; notes about what they can't hold are added to `notes`.

    Chapters don't overlap: a new one begins wherever a label appears or disappears, and its title lists the labels that
    are seen in it.
    """
    (timeline,) = timelines
    texts = clean_labels(timelines, one_line, "a title here is one line without control characters", notes)
    segments = []
    for segment in timed_segments(timeline, notes):
        start = round(1000 * segment.start)
        segments.append((start, max(round(1000 * segment.end), start + 1), texts[segment.label]))
    lines = [";FFMETADATA1", f"title={_escape(one_line(name_of(timeline.path)))}"]
    for start, end, title in _chapters(segments, round(1000 * seconds_of(timeline))):
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={start}", f"END={end}", f"title={_escape(title)}"]
    return "\n".join(lines) + "\n"


def _chapters(segments: list[tuple[int, int, str]], duration: int) -> list[tuple[int, int, str]]:
    """Return start, end and title of chapters that cover the video; none if there are no segments."""
    if not segments:
        return []
    times = sorted({0, duration, *(time for start, end, _ in segments for time in (start, end))})
    chapters: list[tuple[int, int, str]] = []
    for start, end in pairwise(times):
        seen = dict.fromkeys(text for first, last, text in segments if first <= start and end <= last)
        title = " + ".join(seen) or NOTHING
        if chapters and chapters[-1][2] == title:  # two segments of the same labels that touch
            start = chapters.pop()[0]
        chapters.append((start, end, title))
    return chapters


def _escape(text: str) -> str:
    escaped = re.sub(r"([=;#\\])", r"\\\1", text)
    return f"{escaped} " if text.endswith("\\") else escaped  # FFmpeg takes a backslash at the end for a line break
