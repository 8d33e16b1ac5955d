"""From the time stamps of decoded frames to times that go on: what FFmpeg's command does to joined recordings."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.video.tracks import is_cover

# Of formats that are joined by writing one file after another, FFmpeg's command takes a longer gap for a new recording
# (its option -dts_delta_threshold).
LONGEST_STEP_S = 10.0
_LONGEST_STEP_BACK_S = 0.1
_MOST_OUT_OF_ORDER = 4  # frames; ASF gives those of MPEG-2 times that are one packet off


def continuous(stamps: NDArray[np.int64], *, second: float, usual_step: float, may_jump: bool) -> NDArray[np.float64]:
    """Ascending times of frames whose stamps may start again, or jump, where one recording follows another.

    Within a recording stamps count as they are, in order; the next recording begins one usual step after the last
    frame of the one before. Frames with the same stamp share the time until the next one evenly.

    Args:
        stamps: of all frames in the order of decoding, at least one.
        second: units of `stamps` in a second.
        usual_step: units from one frame to the next, if the stamps don't tell.
        may_jump: whether a leap of more than 10 s is a new recording, or only a step back is.

    Returns:
        As many times, in the units of `stamps`.
    """
    steps = np.diff(stamps)
    usual = steps[(steps > 0) & (steps <= LONGEST_STEP_S * second)]
    step = float(np.median(usual)) if len(usual) else usual_step
    cuts = steps < -max(_LONGEST_STEP_BACK_S * second, 2 * step)
    lowest = np.minimum.accumulate(stamps)
    for at in np.flatnonzero(cuts):  # a frame that is only out of order is soon followed by a later one
        before, after = (stamps[max(0, i - _MOST_OUT_OF_ORDER) : i] for i in (at + 1, at + 1 + _MOST_OUT_OF_ORDER))
        cuts[at] = after.max() <= before.max() or after[0] <= lowest[at]
    if may_jump:
        cuts |= steps > LONGEST_STEP_S * second
    parts: list[NDArray[np.float64]] = []
    for part in np.split(stamps, np.flatnonzero(cuts) + 1):
        times = _spread(np.sort(part).astype(np.float64), step)
        parts.append(times + (parts[-1][-1] + step - times[0]) if parts else times)
    return np.concatenate(parts)


def _spread(times: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Ascending times in place of some that are the same."""
    distinct, first = np.unique(times, return_index=True)
    return np.asarray(
        np.interp(np.arange(len(times)), np.append(first, len(times)), np.append(distinct, distinct[-1] + step))
    )


def shown_times(
    stamps: NDArray[np.int64] | NDArray[np.float64], base: Fraction, container: Any, last_duration: int, fps: float
) -> tuple[NDArray[np.float64], float]:
    """When frames are shown, counted from where their container starts, and how long all of them last; in seconds.

    Args:
        stamps: of presentation, ascending.
        base: seconds of a tick.
        container: PyAV's, whose other streams may start before the frames do.
        last_duration: of the last frame, in ticks; 0 where it isn't known, which takes the mean step.
        fps: what a lone frame lasts by.
    """
    first = Fraction(float(stamps[0])) * base
    starts = [first]
    for stream in container.streams:
        if stream.type in ("video", "audio") and stream.start_time is not None and not is_cover(stream):
            start = stream.start_time * Fraction(stream.time_base)
            # sound starts before zero only by what its encoder needs to get going
            starts.append(max(start, Fraction(0)) if stream.type == "audio" else start)
    origin = first if container.format.name == "avi" else min(starts)
    times = (stamps - stamps[0]) * base.numerator / base.denominator + float(first - origin)
    step = float(last_duration * base)
    if step <= 0:
        count = len(stamps)
        step = float(times[-1] - times[0]) / (count - 1) if count > 1 else 1 / fps
    return times, float(times[-1]) + step
