"""Limit what reading a video may cost, so that no damaged or hostile file takes a program down."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from openxclip.common.sizes import format_bytes
from openxclip.errors import VideoError

_OPTIONS = {"seconds": "--max-seconds", "pixels": "--max-pixels", "frames": "--max-frames", "memory": "--max-memory"}
_GIB = 2**30

GRACE_S = 2.0  # time for the process that reads to notice and report by itself that its time is over


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of what reading one file may cost; None is no limit. A file over a limit is refused with a `VideoError`.

    Attributes:
        seconds: wall clock time of one call: opening a file, or reading frames from it (`read_clips` does both).
        pixels: pixels of one frame, checked before it is decoded. 8192 × 8192 is enough for every camera's video.
        frames: frames of one video: four million are 18 hours at 60 frames a second.
        memory: bytes of the frames that one call asks for (number × height × width × 3), and of the content of a pipe,
            which is kept in memory.

    Raises:
        ValueError: a limit is not above 0.
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
        """Raise a `VideoError` if frames of this size are too large."""
        if self.pixels is not None and width * height > self.pixels:
            raise VideoError(
                name, f"its frames have {width}×{height} = {width * height} pixels, {self._over('pixels')}"
            )

    def decoder_options(self) -> dict[str, str]:
        """Return options for FFmpeg's decoders. They count padded rows; `check_pixels` is exact."""
        return {} if self.pixels is None else {"max_pixels": str(2 * self.pixels + (1 << 16))}

    def check_frames(self, name: str, count: int) -> None:
        """Raise a `VideoError` if a video of this many frames has too many."""
        if self.frames is not None and count > self.frames:
            raise VideoError(name, f"it has {count} frames or more, {self._over('frames')}")

    def check_memory(self, name: str, *, count: int, height: int, width: int) -> None:
        """Raise a `VideoError` if this many frames take too much memory."""
        size = count * height * width * 3
        if self.memory is not None and size > self.memory:
            raise VideoError(
                name,
                f"the {count} frames of {width}×{height} asked for take {format_bytes(size)}, {self._over('memory')}; "
                "or ask for fewer frames",
            )

    def check_kept(self, name: str, size: int) -> None:
        """Raise a `VideoError` if this many bytes of a pipe are too many."""
        if self.memory is not None and size > self.memory:
            raise VideoError(
                name, f"it goes on after {format_bytes(size)}, which have to be kept, {self._over('memory')}"
            )

    def _over(self, name: str) -> str:
        limit = getattr(self, name)
        shown = format_bytes(limit) if name == "memory" else str(limit)
        return f"over the limit of {shown}: if that is meant, raise it with {how_to_raise(name)}"


DEFAULT_LIMITS = Limits()

#: Reads everything, however long it takes; for your own files.
NO_LIMITS = Limits(seconds=None, pixels=None, frames=None, memory=None)


class Deadline:
    """The time at which a call must be done.

    Args:
        seconds: time from now on; None is no limit.
        name: name of the source, for the error.
    """

    def __init__(self, seconds: float | None, name: str) -> None:
        self._seconds = seconds
        self._name = name
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        """Raise a `VideoError` if the time is over."""
        if self._seconds is not None and time.monotonic() > self._end:
            raise timeout_error(self._name, self._seconds)

    def left(self) -> float | None:
        """Return the seconds that are left, at least 0; None if there is no limit."""
        return None if self._seconds is None else max(0.0, self._end - time.monotonic())


def timeout_error(name: str, seconds: float) -> VideoError:
    """Return the error for a file that takes longer than the limit."""
    return VideoError(
        name, f"reading it took longer than the limit of {seconds:g} s: raise it with {how_to_raise('seconds')}"
    )


def how_to_raise(name: str) -> str:
    """Return the argument and the option that set a limit, for a message."""
    return f"Limits({name}=…) or {_OPTIONS[name]}"
