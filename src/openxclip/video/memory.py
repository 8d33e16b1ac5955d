"""Read frames in memory like a video file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openxclip.video.frames import Kind, Place, assumed_timeline, rgb_bytes
from openxclip.video.limits import Deadline, Limits


@dataclass(frozen=True, eq=False)
class MemoryVideo:
    """The frames of one video in memory; use `openxclip.processing.sources.in_memory` to make one.

    Frames follow each other at the `fps` of the reader (by default 25), from 0 s. They aren't copied, so don't change
    them before they have been read.

    Attributes:
        name: the name of the video in results and errors.
        frames: one or more frames, uint8 RGB of shape (H, W, 3), all of one size.
    """

    name: str
    frames: Sequence[NDArray[np.uint8]]

    def digest(self) -> str:
        """Return the SHA-256 of the frames' shape and pixels, in hexadecimal."""
        hashed = hashlib.sha256(repr((len(self.frames), *self.frames[0].shape)).encode())
        for frame_HWC in self.frames:
            hashed.update(rgb_bytes(frame_HWC).data)
        return hashed.hexdigest()


class MemoryFootage:
    """The `Footage` of a `MemoryVideo`."""

    kind: Kind = "array"
    codec = "frames in memory"
    tick = 0.0

    def __init__(self, video: MemoryVideo, *, fps: float | None, limits: Limits) -> None:
        self.deadline = Deadline(limits.seconds, video.name)
        self._frames = video.frames
        self.frames_decoded = 0
        self.times, self.duration, self.notes = assumed_timeline(len(video.frames), fps)

    def read(self, indices: list[int], place: Place) -> None:
        """See `Footage.read`."""
        for i in indices:
            self.deadline.check()
            place(i, rgb_bytes(self._frames[i]))
            self.frames_decoded += 1

    def size(self) -> tuple[int, int]:
        """See `Footage.size`."""
        height, width, _ = self._frames[0].shape
        return height, width

    def close(self) -> None:
        """See `Footage.close`; there is nothing to close."""
