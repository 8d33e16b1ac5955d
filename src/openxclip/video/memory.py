"""Frames that the caller has in memory, as a video that `VideoReader` opens like a file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openxclip.video.assumptions import ASSUMED_FPS, FPS_ASSUMED
from openxclip.video.frames import Place, rgb_bytes, steady_times
from openxclip.video.limits import Deadline, Limits


@dataclass(frozen=True, eq=False)
class MemoryVideo:
    """The frames of one video in memory, under a name; `openxclip.processing.sources.in_memory` makes one.

    They are shown at the `fps` of whatever reads them (by default 25), the first at 0 s. They are read in the calling
    process, and must not change until then.

    Attributes:
        name: what results and errors call it.
        frames: T frames, one or more, each uint8 RGB of shape (H, W, 3), all of one size.
    """

    name: str
    frames: Sequence[NDArray[np.uint8]]

    def digest(self) -> str:
        """SHA-256 of the frames' pixels and their shape."""
        hashed = hashlib.sha256(repr((len(self.frames), *self.frames[0].shape)).encode())
        for frame_HWC in self.frames:
            hashed.update(rgb_bytes(frame_HWC).data)
        return hashed.hexdigest()


class MemoryFootage:
    """The frames of a `MemoryVideo` at `fps`. See `Footage`."""

    codec = "frames in memory"
    tick = 0.0

    def __init__(self, video: MemoryVideo, *, fps: float | None, limits: Limits) -> None:
        self.deadline = Deadline(limits.seconds, video.name)
        self._frames = video.frames
        self.frames_decoded = 0
        self.notes: tuple[str, ...] = (FPS_ASSUMED,) if fps is None and len(video.frames) > 1 else ()
        fps = fps or ASSUMED_FPS
        self.times = steady_times(len(video.frames), fps)
        self.duration = len(video.frames) / fps

    def read(self, indices: list[int], place: Place) -> None:
        """As `Footage.read`."""
        for i in indices:
            self.deadline.check()
            place(i, rgb_bytes(self._frames[i]))
            self.frames_decoded += 1

    def size(self) -> tuple[int, int]:
        """As `Footage.size`."""
        height, width, _ = self._frames[0].shape
        return height, width

    def close(self) -> None:
        """Nothing is kept open."""
