"""Times as whole frames at exact rates, and as timecode: no rounding error grows over the hours of a video."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from openxclip.common.counting import counted
from openxclip.timelines.results import Segment, TimelineData

DEFAULT_RATE = Fraction(25)
#: The rates that timecode is defined for and that editors offer.
EDIT_RATES = (
    Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(48), Fraction(50),
    Fraction(60000, 1001), Fraction(60),
)  # fmt: skip

_ROUNDING = Fraction(1, 100_000)  # 23.976 stands for 24000/1001, which is 1e-6 away; 24 is 1e-3 away
_MAX_DENOMINATOR = 100_000  # FCPXML's are less than 2^31


def exact_rate(fps: float) -> Fraction | None:
    """Return the exact rate that a number of frames per second stands for: 29.97 is 30000/1001; None if it isn't known.

    Examples:
        >>> exact_rate(23.976)
        Fraction(24000, 1001)
    """
    if not (math.isfinite(fps) and fps > 0):
        return None
    whole = round(fps)
    ntsc = Fraction(1000 * round(fps * 1.001), 1001)
    for rate in (Fraction(whole), ntsc):
        if rate and abs(Fraction(fps) / rate - 1) < _ROUNDING:
            return rate
    return Fraction(fps).limit_denominator(_MAX_DENOMINATOR) or None


def video_rate(timeline: TimelineData, notes: list[str]) -> Fraction:
    """Return the frames per second of a video; 25 with a note if they are unknown."""
    rate = exact_rate(timeline.fps)
    if rate is None:
        notes.append(f"{timeline.path}: its frame rate is unknown, so its frames are counted at 25 per second.")
        return DEFAULT_RATE
    return rate


def edit_rate(timeline: TimelineData, notes: list[str]) -> Fraction:
    """Return a rate that editors offer: the video's, or the nearest multiple or part of it, else 25, with a note."""
    rate = video_rate(timeline, notes)
    if rate in EDIT_RATES:
        return rate
    fitting = (edit for edit in EDIT_RATES if (edit / rate).denominator == 1 or (rate / edit).denominator == 1)
    chosen = min(fitting, key=lambda edit: max(edit / rate, rate / edit), default=DEFAULT_RATE)
    notes.append(
        f"{timeline.path}: editors don't offer its {float(rate):g} frames per second, so its times are rounded to "
        f"frames of a project with {float(chosen):g}."
    )
    return chosen


def frame_at(seconds: float, rate: Fraction) -> int:
    """Return the number of the frame boundary, from 0, that is nearest to a time."""
    return math.floor(Fraction(seconds) * rate + Fraction(1, 2))


def frame_range(segment: Segment, rate: Fraction, num_frames: int | None = None) -> tuple[int, int]:
    """Return the first frame of a segment, from 0, and the frame after its last: at least one frame.

    Args:
        segment: the segment.
        rate: frames per second.
        num_frames: the number of frames of the video, which the range doesn't exceed.
    """
    first, end = frame_at(segment.start, rate), frame_at(segment.end, rate)
    if num_frames is not None:
        first, end = min(first, num_frames - 1), min(end, num_frames)
    return first, max(end, first + 1)


def num_frames_of(timeline: TimelineData, rate: Fraction) -> int:
    """Return the number of frames of a video, or up to where it was read if its duration is unknown; 1 or more."""
    return max(1, frame_at(seconds_of(timeline), rate))


def seconds_of(timeline: TimelineData) -> float:
    """Return the duration of a video, or up to where it was read if its duration is unknown."""
    if math.isfinite(timeline.duration) and timeline.duration > 0:
        return timeline.duration
    ends = [*timeline.ends.tolist(), *(segment.end for segment in timeline.segments)]
    return max((end for end in ends if math.isfinite(end)), default=0.0)


def timed_segments(timeline: TimelineData, notes: list[str]) -> list[Segment]:
    """Return the segments within the video, by start, then by label.

    Those without valid times are left out, with a note.
    """
    found = []
    limit = timeline.duration if math.isfinite(timeline.duration) and timeline.duration > 0 else math.inf
    for segment in timeline.segments:
        start, end = (min(max(time, 0.0), limit) for time in (segment.start, segment.end))
        if math.isfinite(segment.start) and math.isfinite(segment.end) and segment.start <= segment.end:
            found.append(replace(segment, start=start, end=end))
    missing = len(timeline.segments) - len(found)
    if missing:
        notes.append(
            f"{timeline.path}: {counted(missing, 'segment')} left out, because the times are not valid numbers."
        )
    return sorted(found, key=lambda segment: (segment.start, segment.label))


def drops_frames(rate: Fraction) -> bool:
    """Return whether timecode at a rate leaves out numbers, so that it shows the time of the clock."""
    return rate in (Fraction(30000, 1001), Fraction(60000, 1001))


def frames_of_hour(rate: Fraction) -> int:
    """Return the number of frames in an hour of timecode, at one of `EDIT_RATES`."""
    return 3600 * math.ceil(rate) - 54 * _dropped(rate)


def timecode(frame: int, rate: Fraction) -> str:
    """Return a frame's number as timecode, HH:MM:SS:FF; at 29.97 and 59.94 as drop-frame timecode, HH:MM:SS;FF.

    Args:
        frame: the number of the frame, from 0.
        rate: one of `EDIT_RATES`.
    """
    nominal, dropped = math.ceil(rate), _dropped(rate)
    if dropped:
        tens, rest = divmod(frame, 600 * nominal - 9 * dropped)
        minutes = max(0, (rest - dropped) // (60 * nominal - dropped))
        frame += dropped * (9 * tens + minutes)
    seconds, frames = divmod(frame, nominal)
    separator = ";" if dropped else ":"
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{separator}{frames:02}"


def _dropped(rate: Fraction) -> int:
    """Return how many numbers drop-frame timecode leaves out in a minute, except in each tenth minute."""
    return math.ceil(rate) // 15 if drops_frames(rate) else 0
