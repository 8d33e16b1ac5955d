"""Find the cuts of a video frame by frame, and the windows of each shot."""

from __future__ import annotations

import math
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from openxclip.errors import MissingPackageError
from openxclip.video import ClipPlan
from openxclip.video.clips import cut_windows

if TYPE_CHECKING:
    from torch import Tensor

Shots = Literal["sampled", "exact"]

#: The shortest shot among all frames, in seconds.
MIN_SHOT_S = 0.25

# For scenedetect's AdaptiveDetector: a frame begins a shot if it differs from the one before by this much (mean
# difference of hue, saturation and brightness, of 255), and so many times more than the frames around it do. The
# difference was chosen on 16 films of the playground; it lies between scenedetect's defaults for this detector (15) and
# for ContentDetector (27). The ratio for all frames is scenedetect's default. Among samples, where the next cut may be
# near, it would miss more cuts: in these films, sampled twice a second, 10 % of them instead of 4 %.
_MIN_DIFFERENCE, _MIN_RATIO, _MIN_RATIO_SAMPLED = 20.0, 3.0, 2.0
_AROUND = 2  # frames on each side
_ALIKE = 10.0  # frames that differ by less show the same picture; 5 and 15 give the same cuts in these films
_FLASH_S, _MOST_FLASH_FRAMES = 0.1, 4
_ROUNDING_S = 1e-6


def check_shots(shots: str) -> None:
    """Check how cuts are to be found.

    Raises:
        ValueError: `shots` is neither "sampled" nor "exact".
    """
    if shots not in get_args(Shots):
        raise ValueError(f"shots={shots!r}: must be {' or '.join(get_args(Shots))}, or None.")


def load_detectors() -> Any:
    """Return `scenedetect.detectors`, without decoding anything.

    Raises:
        MissingPackageError: the package is not installed, or can't be imported.
    """
    try:
        import scenedetect.detectors
    except ImportError as error:
        is_in_package = isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] == "scenedetect"
        is_missing = is_in_package and sys.modules.get("scenedetect") is None
        reason = "" if is_missing else (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingPackageError("finding cuts", "scenedetect-headless", "timeline", reason) from error
    return scenedetect.detectors


class CutDetector:
    """Finds hard cuts in a stream of frames: frames that differ from the one before much more than their neighbours do.

    A flash is no cut: one sample after which the picture is the same again, or of all frames those of 0.1 s, at most 4.
    Among all frames, a shot shorter than 0.25 s is joined to the next one, or to the one before if it is the last. A
    change over many frames (a fade, a dissolve) isn't found among all frames. Among samples it is, where few of them
    show it.

    Args:
        fps: frames a second, if these are all frames of a video; None if they are sampled.
        still: if a frame comes this many seconds after the one before, or later, that one was shown in between and
            counts as several frames: in a slide show, the detector would otherwise see only changes. Unused with `fps`.

    Raises:
        MissingPackageError: the package scenedetect-headless is not installed.
    """

    def __init__(self, *, fps: float | None = None, still: float = math.inf) -> None:
        self._detectors = load_detectors()
        frames = math.floor(_FLASH_S * fps + _ROUNDING_S) if fps is not None and fps > 0 else 1
        self._flash = min(max(1, frames), _MOST_FLASH_FRAMES)
        self._detector = self._detectors.AdaptiveDetector(
            adaptive_threshold=_MIN_RATIO_SAMPLED if fps is None else _MIN_RATIO,
            min_content_val=_MIN_DIFFERENCE,
            window_width=_AROUND,
            min_scene_len=0,
        )
        self._still, self._shortest = (still, 0.0) if fps is None else (MIN_SHOT_S, MIN_SHOT_S)
        self._fed = 0
        self._numbers: dict[int, int] = {}  # of the frames that were fed last
        self._jumps: set[int] = set()  # frames that differ from the one before, not decided yet
        self._times: deque[float] = deque()  # of the frames from number `_decided` on
        self._pictures: dict[int, NDArray[np.uint8]] = {}  # the last frames by number, (H, W, 3) BGR
        self._after_still: set[int] = set()  # frames before which a picture was shown for long, not fed yet
        self._decided = self._count = 0
        self._shot_start = self._last_time = 0.0

    def add(self, levels_CHW: Tensor, time: float) -> list[bool]:
        """Take the next frame, and return what is decided with it.

        Args:
            levels_CHW: uint8 RGB (3, H, W).
            time: when the frame is shown, in seconds; later than the frame before.

        Returns:
            For each of the frames that are decided now, in order, whether it begins a shot. The first frame of the
            video doesn't. A frame is decided within the next 4 frames and 0.25 s.
        """
        number = self._count
        self._pictures[number] = np.stack(levels_CHW.numpy()[::-1], axis=-1)  # type: ignore[call-overload]
        self._times.append(time)
        if not number:
            self._shot_start = time
        elif self._is_still(time):
            self._after_still.add(number)
        self._last_time = time
        self._count += 1
        if number > _AROUND:
            self._feed_next(number)
        elif number == _AROUND:
            self._begin()
        return self._decide(time, is_end=False)

    def finish(self, end: float) -> list[bool]:
        """Return whether each of the frames that aren't decided begins a shot; `end` is when the last frame ends."""
        last = self._count - 1
        if 0 <= last < _AROUND:
            self._begin()
        for i in range(_AROUND if self._count else 0):  # the last picture if it stays, else mirrored as at the start
            self._feed(last if self._is_still(end) else max(0, last - 1 - i))
        return self._decide(end, is_end=True)

    def _is_still(self, until: float) -> bool:
        """Return whether the last picture is shown so long that it would be several frames of a usual video."""
        return until - self._last_time >= self._still - _ROUNDING_S

    def _begin(self) -> None:
        """Feed the first frames, and before them the same frames mirrored, because a cut needs frames around it."""
        last = self._count - 1
        for number in range(_AROUND, 0, -1):
            self._feed(min(number, last))
        for number in range(min(_AROUND, last) + 1):
            self._feed_next(number)

    def _feed_next(self, number: int) -> None:
        if number in self._after_still:
            self._after_still.discard(number)
            for _ in range(_AROUND):
                self._feed(number - 1)
        self._feed(number)

    def _feed(self, number: int) -> None:
        from scenedetect.common import FrameTimecode

        self._numbers[self._fed] = number
        found = self._detector.process_frame(FrameTimecode(self._fed, fps=1.0), self._pictures[number])
        self._jumps |= {self._numbers[timecode.frame_num] for timecode in found}
        self._numbers.pop(self._fed - _AROUND, None)
        self._fed += 1

    def _decide(self, now: float, *, is_end: bool) -> list[bool]:
        decided = []
        ahead = 0 if is_end else max(_AROUND, self._flash)
        while self._decided + ahead < self._count:
            time, number = self._times[0], self._decided
            is_jump = number > 0 and number in self._jumps  # the mirrored frames before frame 0 may differ from it
            lasts = now - time >= self._shortest - _ROUNDING_S
            if is_jump and not lasts and not is_end:
                break  # the shot may be too short
            is_cut = is_jump and lasts and time - self._shot_start >= self._shortest - _ROUNDING_S
            is_cut = is_cut and not self._is_flash(number)
            if is_cut:
                self._shot_start = time
            decided.append(is_cut)
            self._times.popleft()
            self._jumps.discard(number)
            self._pictures.pop(number - self._flash - 1, None)
            self._decided += 1
        return decided

    def _is_flash(self, number: int) -> bool:
        """Return whether a frame shortly before a jump and a frame shortly after it show the same picture."""
        for before in range(number - self._flash - 1, number):
            for after in range(number, before + self._flash + 2):
                is_jump_itself = (before, after) == (number - 1, number)
                if before in self._pictures and after in self._pictures and not is_jump_itself:
                    detector = self._detectors.ContentDetector(threshold=_ALIKE, min_scene_len=0)
                    if not self._differ(detector, self._pictures[before], self._pictures[after]):
                        return True
        return False

    @staticmethod
    def _differ(detector: Any, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> bool:
        from scenedetect.common import FrameTimecode

        return any(detector.process_frame(FrameTimecode(i, fps=1.0), p) for i, p in enumerate((first, second)))


class ShotWindows:
    """The windows of one shot, which is cut like a video of its own (see `ClipPlan`), as soon as they are certain.

    Args:
        plan: how long windows are, and how far apart.
        start: when the shot begins, in seconds.
    """

    def __init__(self, plan: ClipPlan, start: float) -> None:
        self._plan, self._start, self._next = plan, start, 0

    @property
    def next_start(self) -> float:
        """When the next window begins, in seconds."""
        return self._start + self._next * self._stride

    @property
    def _stride(self) -> float:
        return self._plan.stride or self._plan.window or math.inf

    def ready(self, now: float) -> list[tuple[float, float]]:
        """Return the bounds of the windows that are certain if the shot lasts until `now` or longer, in seconds."""
        count, _ = cut_windows(now - self._start, self._plan)
        return self._bounds(count - 1)  # the last one may become longer

    def finish(self, end: float) -> list[tuple[float, float]]:
        """Return the bounds of the other windows, if the shot ends at `end`."""
        count, last_end = cut_windows(end - self._start, self._plan)
        bounds = self._bounds(count - 1)
        self._next = count
        last = end if last_end == end - self._start else self._start + last_end  # without a rounding error
        return [*bounds, (self._start + (count - 1) * self._stride, last)]

    def _bounds(self, count: int) -> list[tuple[float, float]]:
        numbers = range(self._next, count)
        self._next = max(self._next, count)
        window = self._plan.window or math.inf
        starts = [self._start + number * self._stride for number in numbers]
        return [(start, start + window) for start in starts]
