"""Choose frames of a video by their numbers or times.

Sources: X-CLIP (Ni et al., ECCV 2022, section 4.1) samples like temporal segment networks (Wang et al., ECCV 2016): one
frame from each of T equal segments, a random one in training and the middle one in testing. The functions count frames
in integers, which aren't rounded. `Timeline` measures time instead, if a video's frames aren't evenly spaced.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch  # imported late, because reading a file doesn't need it

Short = Literal["spread", "repeat_last", "wrap", "error"]
Sampling = Literal["time", "frames"]

# A time computed as `i / fps` may be less than the frame's time by a rounding error.
_TOLERANCE_S = 1e-6

# Matroska, FLV and ASF round times to milliseconds; other containers may have times that were copied from these.
_COMMON_TICK_S = 0.001


def sample_uniform(
    *, total: int, num_frames: int, generator: torch.Generator | None = None, short: Short = "spread", first: int = 0
) -> list[int]:
    """Choose one frame from each of `num_frames` equal segments of a video.

    Segment t of T over N frames is the interval [tN/T, (t+1)N/T); a frame belongs to the segment that contains its
    middle. For testing, without a generator, the frame at the segment's midpoint is chosen, `floor((2t + 1) N / 2T)`.
    For training, with a generator, a random frame of the segment is chosen, each with the same probability; but with
    fewer frames than segments, midpoints are chosen.

    Args:
        total: number of frames (N), at least 1.
        num_frames: number of frames to choose (T), at least 1.
        generator: draws the random numbers.
        short: how to choose from fewer than T frames: `spread` takes the midpoints, `repeat_last` takes each frame once
            and then repeats the last, `wrap` starts again from the first, `error` raises an error.
        first: index of the first of the `total` frames, added to every result (see `frame_range`).

    Returns:
        `num_frames` indices in `[first, first + total)`, ascending unless `short` is "wrap".

    Raises:
        ValueError: a number is out of range, or there are fewer than T frames and `short` is "error".

    Examples:
        >>> from openxclip.video import sample_uniform
        >>> sample_uniform(total=300, num_frames=8)
        [18, 56, 93, 131, 168, 206, 243, 281]
    """
    _check_counts(total, num_frames, first, short)
    if total < num_frames and short != "spread":
        if short == "error":
            raise ValueError(
                f"the video has {total} frames and {num_frames} are asked for: "
                'ask for fewer, or choose another value of "short"'
            )
        return [first + (i % total if short == "wrap" else min(i, total - 1)) for i in range(num_frames)]
    if generator is None or total < num_frames:
        return [first + (2 * t + 1) * total // (2 * num_frames) for t in range(num_frames)]
    # ceil(tN/T - 1/2): the first frame whose middle is not before the segment's start
    starts = [-((num_frames - 2 * t * total) // (2 * num_frames)) for t in range(num_frames + 1)]
    return [first + _draw_frame(low, high, generator) for low, high in pairwise(starts)]


def sample_clips(
    *, total: int, num_frames: int, num_clips: int, short: Short = "spread", first: int = 0
) -> list[list[int]]:
    """Choose several clips over the whole video, to test with several views.

    Clip c of C has the frames at `(2c + 1) / 2C` of every segment. Together, the clips have the midpoints of T·C
    segments; a single clip has the frames of `sample_uniform`. (The paper tests with 4 clips, which its code draws at
    random, so that results differ from run to run.)

    Args:
        total: number of frames, at least 1.
        num_frames: number of frames of each clip, at least 1.
        num_clips: number of clips, at least 1.
        short, first: as in `sample_uniform`. With fewer than `num_frames` frames, all clips are equal.

    Returns:
        `num_clips` lists of `num_frames` indices.

    Raises:
        ValueError: as in `sample_uniform`.
    """
    _check_minimum(1, num_clips=num_clips)
    return [
        sample_clip(total=total, num_frames=num_frames, number=number, num_clips=num_clips, short=short, first=first)
        for number in range(num_clips)
    ]


def sample_clip(
    *, total: int, num_frames: int, number: int, num_clips: int, short: Short = "spread", first: int = 0
) -> list[int]:
    """Return clip `number`, counted from 0, of `sample_clips` with these arguments."""
    if total < num_frames:
        return sample_uniform(total=total, num_frames=num_frames, short=short, first=first)
    _check_counts(total, num_frames, first, short)
    points = num_frames * num_clips
    return [first + (2 * p + 1) * total // (2 * points) for p in range(number, points, num_clips)]


def sample_times(*, times: Sequence[float], at: Sequence[float], duration: float | None = None) -> list[int]:
    """Return the frame that is shown at each of some times.

    Args:
        times: when each frame appears, in seconds, ascending.
        at: times in seconds, in any order. For a time before the first frame, the first frame is returned.
        duration: when the last frame ends, in seconds; without it, the last frame never ends.

    Returns:
        One index into `times` for each time.

    Raises:
        ValueError: there are no frames, or a time is negative, not a number, or not before `duration`.
    """
    if len(times) == 0:
        raise ValueError("times is empty: there is no frame to choose from")
    for time in at:
        if not 0 <= time < math.inf:
            raise ValueError(f"time {time} is not a time in the video: it must be 0 s or later")
        if duration is not None and time >= duration:
            raise ValueError(f"time {time} s is past the end: it must be before {duration:.3f} s")
    return [max(0, bisect_right(times, time + _TOLERANCE_S) - 1) for time in at]


def frame_range(
    *, times: Sequence[float], start: float | None = None, end: float | None = None, duration: float | None = None
) -> range:
    """Return the frames that are shown in a part of a video.

    The other functions take it as `total=len(range)`, `first=range.start`.

    Args:
        times: when each frame appears, in seconds, ascending.
        start: start of the part, in seconds; default is the start of the video. The first frame is the one shown then.
        end: end of the part, in seconds; default is the end of the video. Frames that appear then or later are left
            out.
        duration: when the last frame ends, in seconds; without it, the last frame never ends.

    Returns:
        A range of indices, never empty.

    Raises:
        ValueError: there are no frames, `start` is negative or not before `duration`, or `end` is not after `start`.
    """
    if end is not None and not end > (start or 0.0):
        raise ValueError(f"end={end} s must be after start={start or 0.0} s")
    low = sample_times(times=times, at=[start or 0.0], duration=duration)[0]
    high = len(times) if end is None else bisect_left(times, end - _TOLERANCE_S)
    return range(low, max(high, low + 1))


def is_steady(times: NDArray[np.float64], *, tick: float = 0.0) -> bool:
    """Return whether frames are evenly spaced, except for rounded times.

    Args:
        times: when each frame appears, in seconds, ascending; of shape (N,).
        tick: the unit to which the container rounds times, in seconds.

    Returns:
        True if each time is less than a tick away from evenly spaced times. A tick below a millisecond counts as a
        millisecond.
    """
    if len(times) < 3:
        return True
    even = np.linspace(times[0], times[-1], len(times))
    return bool(np.abs(times - even).max() < max(tick, _COMMON_TICK_S) + _TOLERANCE_S)


class Timeline:
    """The times of a video's frames, which choose the frames of clips in training and testing.

    By "time", a clip is divided into segments of equal length in seconds, and the frame shown at the midpoint of each
    segment (testing) or at a random time in it (training) is chosen. If the frames are evenly spaced (see `is_steady`),
    counting them gives the same result, so they are counted: see `sample_clips` and `sample_uniform`. By "frames", they
    are always counted, as the authors of X-CLIP do.

    Args:
        times: when each frame appears, in seconds, ascending; of shape (N,), N at least 1.
        duration: when the last frame ends, in seconds.
        tick: the unit to which the container rounds times, in seconds; 0 if it doesn't round.
        sampling: "time" or "frames".

    Raises:
        ValueError: `sampling` is neither "time" nor "frames".
    """

    def __init__(
        self, times: NDArray[np.float64], *, duration: float, tick: float = 0.0, sampling: Sampling = "time"
    ) -> None:
        check_sampling(sampling)
        self._times, self._list, self._duration, self._tick = times, times.tolist(), duration, tick
        self._always_counts = sampling == "frames" or is_steady(times, tick=tick)
        self._last_part = (range(0), True)  # the last result of `is_steady`

    def frames(self, *, start: float | None = None, end: float | None = None) -> range:
        """Return the frames of a part of the video; see `frame_range`."""
        return frame_range(times=self._list, start=start, end=end, duration=self._duration)

    def clip(
        self,
        *,
        num_frames: int,
        number: int = 0,
        num_clips: int = 1,
        start: float | None = None,
        end: float | None = None,
        short: Short = "spread",
        generator: torch.Generator | None = None,
    ) -> list[int]:
        """Choose the frames of one clip over the video, or over a part of it.

        Args:
            num_frames: number of frames of the clip (T), at least 1.
            number, num_clips: which of several clips to choose, as in `sample_clip`; 0 and 1 with a generator.
            start, end: bounds of the part, in seconds.
            short: how to choose from fewer than T frames, as in `sample_uniform`.
            generator: draws the random numbers, for training.

        Returns:
            `num_frames` indices of frames of the part, ascending unless `short` is "wrap".

        Raises:
            ValueError: a number is out of range, or the part is short and `short` is "error".
        """
        part = self.frames(start=start, end=end)
        total, first = len(part), part.start
        is_short = total < num_frames
        if self._counts_frames(part) or (is_short and short != "spread"):
            if generator is not None:
                return sample_uniform(total=total, num_frames=num_frames, generator=generator, short=short, first=first)
            return sample_clip(
                total=total, num_frames=num_frames, number=number, num_clips=num_clips, short=short, first=first
            )
        _check_minimum(1, num_frames=num_frames)
        begin = max(self._list[first], start or 0.0)
        length = min(self._duration, math.inf if end is None else end) - begin
        if is_short:  # as in `sample_uniform` and `sample_clips`
            number, num_clips, generator = 0, 1, None
        if generator is None:
            positions = [(2 * p + 1) / (2 * num_clips) for p in range(number, num_frames * num_clips, num_clips)]
        else:
            positions = [t + fraction for t, fraction in enumerate(_draw_fractions(num_frames, generator))]
        at = [begin + position * length / num_frames for position in positions]
        return [min(max(i, first), part.stop - 1) for i in sample_times(times=self._list, at=at)]

    def _counts_frames(self, part: range) -> bool:
        if self._always_counts:
            return True
        if self._last_part[0] != part:
            self._last_part = (part, is_steady(self._times[part.start : part.stop], tick=self._tick))
        return self._last_part[1]


def check_sampling(sampling: str) -> None:
    """Raise a ValueError if `sampling` is neither "time" nor "frames"."""
    if sampling not in get_args(Sampling):
        raise ValueError(f"sampling={sampling!r}: must be {' or '.join(get_args(Sampling))}.")


def check_short(short: str) -> None:
    """Raise a ValueError if `short` isn't a policy for short videos."""
    if short not in get_args(Short):
        raise ValueError(f"short={short!r} is not a policy: choose one of {', '.join(get_args(Short))}")


def check_part(start: float | None, end: float | None) -> None:
    """Raise a ValueError if `start` is negative or not a number, or `end` isn't after it."""
    first, last = 0.0 if start is None else start, math.inf if end is None else end
    if not 0 <= first < math.inf:
        raise ValueError(f"start={start}: must be 0 or more seconds.")
    if not last > first:
        raise ValueError(f"end={end}: must be after start={first:g}.")


def _draw_frame(low: int, high: int, generator: torch.Generator) -> int:
    import torch

    return int(torch.randint(low, high, (), generator=generator, device=generator.device))


def _draw_fractions(count: int, generator: torch.Generator) -> list[float]:
    """Return random numbers in [0, 1)."""
    import torch

    drawn: list[float] = torch.rand(count, generator=generator, dtype=torch.float64, device=generator.device).tolist()
    return drawn


def _check_counts(total: int, num_frames: int, first: int, short: str) -> None:
    _check_minimum(1, total=total, num_frames=num_frames)
    _check_minimum(0, first=first)
    check_short(short)


def _check_minimum(minimum: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < minimum:
            raise ValueError(f"{name}={number} must be {minimum} or more")
