"""Options for opening and reading a video."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from openxclip.video.limits import DEFAULT_LIMITS, Limits

Decode = Literal["all", "nonref", "key"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options for opening and reading a video.

    Attributes:
        limits: limits of what reading one file may cost.
        allow_protocols: protocols, by FFmpeg's names, with which playlists and addresses may be opened, such as
            "https", "tls", "tcp" (an https address needs all three) or "file" (for a playlist on this machine). A list
            is stored as a tuple.
        threads: number of decoding threads; 0 is one per core, or a single thread if that is faster.
        fps: frame rate of sources without times: folders of images, `.npy` arrays, frames in memory. None assumes 25,
            with a note, and a warning when frames are read.
        track: number of the video track to read, from 0 in the order of the file; covers don't count. None chooses the
            track that players show: it has the flag "default" or, among several, the highest bit rate.
        decode: which frames may be decoded. "all" gives exact frames. The others are faster: in place of a frame that
            isn't decoded, they give the last one before it that is, with that one's index and time. "nonref" leaves out
            frames to which no other frame refers (most B-frames), "key" all but key frames. Where a format marks no
            such frames, all are decoded, and a note says so.
        allow_cut_off: read a video file that is cut off up to the cut, instead of refusing it. `VideoReader.cut_off`
            then says so; what reads all clips of a video yields them, and then the error. A file of which nothing can
            be read, such as an MP4 whose index was at its end, is refused all the same, and so are arrays and images.

    Raises:
        ValueError: a value is out of range.
    """

    limits: Limits = DEFAULT_LIMITS
    allow_protocols: tuple[str, ...] = ()
    threads: int = 0
    fps: float | None = None
    track: int | None = None
    decode: Decode = "all"
    allow_cut_off: bool = False

    def __post_init__(self) -> None:
        names = self.allow_protocols
        if isinstance(names, str) or not all(name.isascii() and name.isalnum() for name in names):
            raise ValueError(
                f'allow_protocols={names!r} must be a list of protocols by FFmpeg\'s names, such as ["https"]'
            )
        object.__setattr__(self, "allow_protocols", tuple(names))
        if self.threads < 0:
            raise ValueError(f"threads={self.threads} must be 0 (one per core) or more")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ValueError(f"fps={self.fps}: must be a number above 0.")
        if self.track is not None and self.track < 0:
            raise ValueError(f"track={self.track} must be 0 or more: tracks are counted from 0")
        if self.decode not in get_args(Decode):
            raise ValueError(f"decode={self.decode!r}: must be {', '.join(get_args(Decode)[:-1])} or key.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ReadOptions:
        """Restore the options from the result of `dataclasses.asdict`."""
        return cls(**{**values, "limits": Limits(**values["limits"])})
