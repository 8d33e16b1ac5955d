"""What reading a video may cost, so that no file, however damaged or hostile, takes a program down with it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from openxclip.common.sizes import in_bytes
from openxclip.errors import VideoError

_OPTIONS = {"seconds": "--max-seconds", "pixels": "--max-pixels", "frames": "--max-frames", "memory": "--max-memory"}
_GIB = 2**30

GRACE_S = 2.0  # for a process that reads to notice itself that its time is over, and to say so


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What reading one file may cost; None is no limit. A file that goes past one is refused with a `VideoError`.

    Attributes:
        seconds: wall clock of one call: opening a file, or reading frames from it (`read_clips` does both in one).
        pixels: of one frame, before anything of it is decoded. 8192 × 8192 holds every camera's video.
        frames: of one video: four million are 18 hours at 60 frames a second.
        memory: bytes of the frames that one call asks for (number × height × width × 3), and of what is read from a
            pipe, which has to be kept.

    Raises:
        ValueError: a limit that is not above 0.
    """

    seconds: float | None = 120.0
    pixels: int | None = 8192 * 8192
    frames: int | None = 4_000_000
    memory: int | None = 8 * _GIB

    def __post_init__(self) -> None:
        for name in _OPTIONS:
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise ValueError(f"{name}={limit} must be above 0, or None for no limit")

    def check_pixels(self, name: str, *, width: int, height: int) -> None:
        """Refuse frames of this size if they are too large."""
        if self.pixels is not None and width * height > self.pixels:
            raise VideoError(
                name, f"its frames have {width}×{height} = {width * height} pixels, {self._over('pixels')}"
            )

    def check_frames(self, name: str, count: int) -> None:
        """Refuse a video of this many frames if they are too many."""
        if self.frames is not None and count > self.frames:
            raise VideoError(name, f"it has {count} frames or more, {self._over('frames')}")

    def check_memory(self, name: str, *, count: int, height: int, width: int) -> None:
        """Refuse to make room for this many frames if that is too much."""
        size = count * height * width * 3
        if self.memory is not None and size > self.memory:
            raise VideoError(
                name,
                f"the {count} frames of {width}×{height} asked for take {in_bytes(size)}, {self._over('memory')}; "
                "or ask for fewer frames",
            )

    def check_kept(self, name: str, size: int) -> None:
        """Refuse to keep this many bytes of a pipe if they are too many."""
        if self.memory is not None and size > self.memory:
            raise VideoError(name, f"it goes on after {in_bytes(size)}, which have to be kept, {self._over('memory')}")

    def _over(self, name: str) -> str:
        limit = getattr(self, name)
        shown = in_bytes(limit) if name == "memory" else str(limit)
        return f"over the limit of {shown}: if that is meant, raise it with {how_to_raise(name)}"


DEFAULT_LIMITS = Limits()

#: Reads whatever there is, however long it takes: for files that are your own.
NO_LIMITS = Limits(seconds=None, pixels=None, frames=None, memory=None)


class Deadline:
    """When a call has to be done.

    Args:
        seconds: from now on; None: whenever.
        name: of the source, for the error.
    """

    def __init__(self, seconds: float | None, name: str) -> None:
        self._seconds = seconds
        self._name = name
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        """Raise a `VideoError` if the time is over."""
        if self._seconds is not None and time.monotonic() > self._end:
            raise too_slow(self._name, self._seconds)

    def left(self) -> float | None:
        """Seconds that are left, 0 if it is over; None if there is no end to it."""
        return None if self._seconds is None else max(0.0, self._end - time.monotonic())


def too_slow(name: str, seconds: float) -> VideoError:
    """What is said of a file that takes longer than it may."""
    return VideoError(
        name, f"reading it took longer than the limit of {seconds:g} s: raise it with {how_to_raise('seconds')}"
    )


def how_to_raise(name: str) -> str:
    """The argument and the option that set a limit."""
    return f"Limits({name}=…) or {_OPTIONS[name]}"
