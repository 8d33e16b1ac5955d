"""How a video is opened and read: the options that every function which reads videos takes as one object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from openxclip.video.limits import DEFAULT_LIMITS, Limits


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How a video is opened and read.

    Attributes:
        limits: what reading one file may cost.
        allow_protocols: FFmpeg's names of the protocols by which playlists and addresses may be opened, such as
            "https", "tls", "tcp" (an https address takes all three) or "file" (for a playlist on this machine). A list
            is stored as a tuple.
        threads: threads that decode; 0 is one per core, or a single one where that is faster.
        fps: frames per second of frames without times: folders of images, `.npy` arrays, frames in memory. None
            assumes 25, which is noted, and warned of when frames are read.
        track: which video track to read, counted from 0 in the order of the file. None is the track that players show:
            one with the flag "default", then the one with the higher bit rate. Covers don't count.

    Raises:
        ValueError: a value is out of its range.
    """

    limits: Limits = DEFAULT_LIMITS
    allow_protocols: tuple[str, ...] = ()
    threads: int = 0
    fps: float | None = None
    track: int | None = None

    def __post_init__(self) -> None:
        names = self.allow_protocols
        if isinstance(names, str) or not all(name.isascii() and name.isalnum() for name in names):
            raise ValueError(
                f'allow_protocols={names!r} must be a list of FFmpeg\'s names of protocols, such as ["https"]'
            )
        object.__setattr__(self, "allow_protocols", tuple(names))
        if self.threads < 0:
            raise ValueError(f"threads={self.threads} must be 0 (one a core) or more")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ValueError(f"fps={self.fps}: must be a number above 0.")
        if self.track is not None and self.track < 0:
            raise ValueError(f"track={self.track} must be 0 or more: tracks are counted from 0")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ReadOptions:
        """Return the options that `dataclasses.asdict` turned into `values`."""
        return cls(**{**values, "limits": Limits(**values["limits"])})
