"""Limit what reading a video may cost, so that no damaged or malicious file can take a program down."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from openxclip.common.sizes import format_bytes
from openxclip.errors import VideoError

_OPTIONS = {"seconds": "--max-seconds", "pixels": "--max-pixels", "frames": "--max-frames", "memory": "--max-memory"}
_GIB = 2**30

GRACE_S = 2.0  # extra time for the worker process to report a timeout itself before it is killed


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of what reading one file may cost; None is no limit. A file over a limit is refused with a `VideoError`.

    Attributes:
        seconds: wall-clock time of one call, which opens a file or reads frames from it (`read_clips` does both).
        pixels: pixels of one frame, checked before it is decoded. The default, 8192 × 8192, is enough for any camera.
        frames: frames of one video. The default is 18 hours at 60 frames a second.
        memory: bytes of the frames that one call asks for (number × height × width × 3), and of the content of a pipe
            or a buffer, which is kept in memory.

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
        """Raise a `VideoError` if a frame of this size has too many pixels."""
        if self.pixels is not None and width * height > self.pixels:
            raise VideoError(
                name, f"its frames have {width}×{height} = {width * height} pixels, {self._over('pixels')}"
            )

    def decoder_options(self) -> dict[str, str]:
        """Return options for FFmpeg's decoders. FFmpeg counts padding too, so its limit is higher than `pixels`."""
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

    def check_content_size(self, name: str, size: int) -> None:
        """Raise a `VideoError` if the content of a pipe or a buffer has too many bytes to keep in memory."""
        if self.memory is not None and size > self.memory:
            raise VideoError(name, f"it has {format_bytes(size)} or more to keep in memory, {self._over('memory')}")

    def _over(self, name: str) -> str:
        limit = getattr(self, name)
        shown = format_bytes(limit) if name == "memory" else str(limit)
        return f"over the limit of {shown}: to read it anyway, raise the limit with {_how_to_raise(name)}"


DEFAULT_LIMITS = Limits()

#: No limits, for files that you trust.
NO_LIMITS = Limits(seconds=None, pixels=None, frames=None, memory=None)


class Deadline:
    """The time by which a call must have finished.

    Args:
        seconds: seconds from now; None is no limit.
        name: name of the source in the error.
    """

    def __init__(self, seconds: float | None, name: str) -> None:
        self._seconds, self._name = seconds, name
        self.restart()

    def restart(self) -> None:
        """Start counting the seconds again, for another call."""
        self._end = math.inf if self._seconds is None else time.monotonic() + self._seconds

    def check(self) -> None:
        """Raise a `VideoError` if the deadline has passed."""
        if self._seconds is not None and time.monotonic() > self._end:
            raise timeout_error(self._name, self._seconds)

    def left(self) -> float | None:
        """Return the seconds that are left, at least 0; None if there is no limit."""
        return None if self._seconds is None else max(0.0, self._end - time.monotonic())


def timeout_error(name: str, seconds: float) -> VideoError:
    """Return the error for a file whose reading takes longer than the limit."""
    return VideoError(
        name, f"reading it took longer than the limit of {seconds:g} s: raise the limit with {_how_to_raise('seconds')}"
    )


def _how_to_raise(name: str) -> str:
    """Return the argument and the option that set a limit, for a message."""
    return f"Limits({name}=…) or {_OPTIONS[name]}"
