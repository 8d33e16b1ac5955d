"""Times in a video as people write and read them: 83.5 seconds are 1:23.5."""

from __future__ import annotations

import math
import re

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)


def clock(seconds: float) -> str:
    """A time to a tenth of a second: 1:02.5, or 1:00:02.5 from an hour on."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"


def parse_time(text: str) -> float:
    """Seconds from what `clock` writes, or from a plain number of seconds.

    Raises:
        ValueError: the text is neither, or has 60 minutes or seconds or more after a colon.
    """
    found = _CLOCK.fullmatch(text.strip())
    if found is not None:
        hours, minutes, seconds = found.groups()
        whole = float(seconds)
        is_clock = minutes is not None
        if not (is_clock and whole >= 60) and not (hours is not None and int(minutes) >= 60) and math.isfinite(whole):
            return int(hours or 0) * 3600 + int(minutes or 0) * 60 + whole
    raise ValueError(f"{text!r} is not a time: write seconds (83.5) or h:mm:ss.s (1:23.5, 1:00:02.5).")
