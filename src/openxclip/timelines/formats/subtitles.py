"""WebVTT (www.w3.org/TR/webvtt1) and SRT: a subtitle with the label for each segment."""

from __future__ import annotations

from collections.abc import Sequence

from openxclip.timelines.formats.frames import timed_segments
from openxclip.timelines.formats.texts import clean_labels, one_line
from openxclip.timelines.results import Segment, TimelineData

_ONE_LINE = "a subtitle here is one line without control characters"


def format_webvtt(timelines: Sequence[TimelineData], notes: list[str]) -> str:
    """Return one timeline as WebVTT; notes about what it can't hold are added to `notes`."""
    (timeline,) = timelines
    texts = clean_labels(timelines, one_line, _ONE_LINE, notes)
    cues = []
    for segment in timed_segments(timeline, notes):
        start, end = _milliseconds(segment)
        text = texts[segment.label].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        cues.append(f"\n{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n")
    return "WEBVTT\n" + "".join(cues)


def format_srt(timelines: Sequence[TimelineData], notes: list[str]) -> str:
    """Return one timeline as SRT; notes about what it can't hold are added to `notes`."""
    (timeline,) = timelines
    reason = f"{_ONE_LINE}, and players take <…> and {{…}} for formatting"
    texts = clean_labels(timelines, _srt_text, reason, notes)
    cues = []
    for number, segment in enumerate(timed_segments(timeline, notes), 1):
        start, end = _milliseconds(segment)
        cues.append(f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{texts[segment.label]}\n")
    return "\n".join(cues)


def _srt_text(label: str) -> str:
    return one_line(label).translate(str.maketrans("<>{}", "‹›()"))  # SRT has no way to escape them


def _milliseconds(segment: Segment) -> tuple[int, int]:
    start = round(1000 * segment.start)
    return start, max(round(1000 * segment.end), start + 1)  # players leave out an empty subtitle


def _clock(milliseconds: int, separator: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{separator}{milliseconds:03}"
