"""EDL in the form of CMX 3600: an event for each segment, which DaVinci Resolve also imports as a marker."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from openxclip.common.counting import counted
from openxclip.timelines.formats.frames import (
    drops_frames,
    edit_rate,
    frame_range,
    frames_of_hour,
    timecode,
    timed_segments,
)
from openxclip.timelines.formats.texts import clean_labels, name_of, one_line, stem_of
from openxclip.timelines.results import TimelineData

_MAX_EVENTS = 999
_RESERVED = ("AX", "BL", "BLACK", "BARS")  # reels that stand for no tape, black and colour bars
_COLORS = ("Blue", "Green", "Red", "Cyan", "Yellow", "Fuchsia", "Purple", "Sand")


def format_edl(timelines: Sequence[TimelineData], notes: list[str]) -> str:
    """Return one timeline as an EDL; notes about what it can't hold are added to `notes`.

    Source timecode begins at 00:00:00:00, record timecode at 01:00:00:00. Each event has a line with colour, label and
    number of frames in the form of DaVinci Resolve's exported markers.
    """
    (timeline,) = timelines
    path, rate = timeline.path, edit_rate(timeline, notes)
    reason = "an EDL has it in one line without control characters and |"
    texts = clean_labels(timelines, lambda label: one_line(label.replace("|", "/")), reason, notes)
    colors = {label: _COLORS[number % len(_COLORS)] for number, label in enumerate(texts)}
    hour = frames_of_hour(rate)
    events: list[tuple[int, int, str]] = []
    moved = shortened = late = 0
    for segment in timed_segments(timeline, notes):
        first, end = frame_range(segment, rate)
        length = end - first
        if events and first <= events[-1][0]:
            first = events[-1][0] + 1
            end = max(end, first + 1)
            moved += 1
        if end >= 23 * hour:  # record timecode is an hour ahead
            late += 1
            continue
        if events and first < events[-1][1]:
            events[-1] = (events[-1][0], first, events[-1][2])
            shortened += 1
        line = f" |C:ResolveColor{colors[segment.label]} |M:{texts[segment.label]} |D:{length}"
        events.append((first, end, line))
    if shortened:
        notes.append(
            f"{path}: {counted(shortened, 'event')} cut short where the next begins, because an EDL has one track; "
            "|D: has the whole length."
        )
    if moved:
        notes.append(f"{path}: {counted(moved, 'event')} moved to a later frame, because an EDL has one event a frame.")
    if late:
        notes.append(f"{path}: {counted(late, 'segment')} left out, because an EDL's timecode ends after 23 hours.")
    if len(events) > _MAX_EVENTS:
        notes.append(f"{path}: {len(events)} events; CMX 3600 has {_MAX_EVENTS}, and some editors read no more.")
    mode = "DROP FRAME" if drops_frames(rate) else "NON-DROP FRAME"
    lines = [f"TITLE: {one_line(stem_of(path))[:70]}", f"FCM: {mode}", ""]
    for number, (first, end, line) in enumerate(events, 1):
        times = (timecode(frame, rate) for frame in (first, end, first + hour, end + hour))
        lines += [f"{number:03}  {_reel(path):8} V     C        {' '.join(times)}", line]
        lines += [f"* FROM CLIP NAME: {one_line(name_of(path))}", ""]
    return "\n".join(lines)


def _reel(path: str) -> str:
    """Return the name of a reel: 8 capital letters and digits at most."""
    ascii_name = unicodedata.normalize("NFKD", stem_of(path)).encode("ascii", "ignore").decode()
    reel = re.sub(r"[^A-Z0-9]", "", ascii_name.upper())[:8]
    return f"{reel or 'VIDEO'}1" if not reel or reel in _RESERVED else reel
