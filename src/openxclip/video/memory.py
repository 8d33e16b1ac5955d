"""Frames in memory, which are read like a video file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openxclip.video.frames import rgb_bytes


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
