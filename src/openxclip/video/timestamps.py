"""Turn timestamps into continuous times of frames, as FFmpeg's command does with joined recordings."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.video.tracks import is_cover

# In formats that are joined by writing one file after another, FFmpeg's command takes a longer gap for a new recording
# (its option -dts_delta_threshold).
LONGEST_STEP_S = 10.0
_LONGEST_STEP_BACK_S = 0.1
_MAX_OUT_OF_ORDER = 4  # frames; ASF stores times of MPEG-2 frames that are one packet off


def continuous(stamps: NDArray[np.int64], *, second: float, usual_step: float, may_jump: bool) -> NDArray[np.float64]:
    """Return ascending times of frames whose timestamps may restart or jump where one recording follows another.

    Within a recording, timestamps are taken as they are, in order. The next recording begins one usual step after the
    last frame of the one before. Frames with the same timestamp share the time until the next one evenly.

    Args:
        stamps: timestamps of all frames in decoding order, at least one.
        second: units of `stamps` in a second.
        usual_step: units from one frame to the next, if the timestamps don't say.
        may_jump: whether a jump ahead of more than 10 s is a new recording, and not only a step back.

    Returns:
        One time for each frame, in the units of `stamps`.
    """
    steps = np.diff(stamps)
    usual = steps[(steps > 0) & (steps <= LONGEST_STEP_S * second)]
    step = float(np.median(usual)) if len(usual) else usual_step
    cuts = steps < -max(_LONGEST_STEP_BACK_S * second, 2 * step)
    lowest = np.minimum.accumulate(stamps)
    for at in np.flatnonzero(cuts):  # a frame that is merely out of order is soon followed by a later one
        before, after = (stamps[max(0, i - _MAX_OUT_OF_ORDER) : i] for i in (at + 1, at + 1 + _MAX_OUT_OF_ORDER))
        cuts[at] = after.max() <= before.max() or after[0] <= lowest[at]
    if may_jump:
        cuts |= steps > LONGEST_STEP_S * second
    parts: list[NDArray[np.float64]] = []
    for part in np.split(stamps, np.flatnonzero(cuts) + 1):
        times = _spread(np.sort(part).astype(np.float64), step)
        parts.append(times + (parts[-1][-1] + step - times[0]) if parts else times)
    return np.concatenate(parts)


def _spread(times: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Spread equal times evenly up to the next one."""
    distinct, first = np.unique(times, return_index=True)
    return np.asarray(
        np.interp(np.arange(len(times)), np.append(first, len(times)), np.append(distinct, distinct[-1] + step))
    )


def shown_times(
    stamps: NDArray[np.int64] | NDArray[np.float64], base: Fraction, container: Any, last_duration: int, fps: float
) -> tuple[NDArray[np.float64], float]:
    """Return when frames are shown, from the start of their container, and when the last one ends; in seconds.

    Args:
        stamps: presentation timestamps, ascending.
        base: seconds per unit of `stamps`.
        container: PyAV's; other streams may start before the frames do.
        last_duration: duration of the last frame, in units; 0 if unknown, which takes the mean step.
        fps: frames per second, which sets the duration of a single frame.
    """
    first = Fraction(float(stamps[0])) * base
    starts = [first]
    for stream in container.streams:
        if stream.type in ("video", "audio") and stream.start_time is not None and not is_cover(stream):
            start = stream.start_time * Fraction(stream.time_base)
            # audio starts before zero only because its encoder needs a lead-in
            starts.append(max(start, Fraction(0)) if stream.type == "audio" else start)
    origin = first if container.format.name == "avi" else min(starts)
    times = (stamps - stamps[0]) * base.numerator / base.denominator + float(first - origin)
    step = float(last_duration * base)
    if step <= 0:
        count = len(stamps)
        step = float(times[-1] - times[0]) / (count - 1) if count > 1 else 1 / fps
    return times, float(times[-1]) + step
