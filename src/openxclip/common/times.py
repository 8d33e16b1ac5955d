"""Format and parse times in a video: 83.5 seconds are 1:23.5."""

from __future__ import annotations

import math
import re

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)


def format_time(seconds: float) -> str:
    """Return a time to a tenth of a second: 1:02.5, or 1:00:02.5 from an hour on."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"


def parse_time(text: str) -> float:
    """Return the seconds in a text of `format_time`, or in a plain number of seconds.

    Raises:
        ValueError: the text is neither, or has 60 or more minutes or seconds after a colon.
    """
    match = _CLOCK.fullmatch(text.strip())
    if match is not None:
        hours, minutes, seconds = match.groups()
        has_valid_seconds = float(seconds) < (math.inf if minutes is None else 60)
        has_valid_minutes = hours is None or int(minutes) < 60
        if has_valid_seconds and has_valid_minutes:
            return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
    raise ValueError(f"{text!r} is not a time: write seconds (83.5) or h:mm:ss.s (1:23.5, 1:00:02.5).")
