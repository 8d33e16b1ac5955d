"""Read frames from arrays, in memory or in a `.npy` file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.video.boxes import read_at, reading, size_of
from openxclip.video.failures import explain_errors
from openxclip.video.frames import Kind, Place, assumed_timeline, read_one_by_one, rgb_bytes
from openxclip.video.limits import Deadline, Limits
from openxclip.video.refusals import why_array_not_opened


class _Header(NamedTuple):
    shape: tuple[int, ...]
    is_column_major: bool
    dtype: np.dtype[Any]


class ArrayFootage:
    """Frames in an array or a sequence of arrays. See `Footage`.

    Args:
        frames: one or more frames, uint8 RGB of shape (H, W, 3).
        codec: what holds the frames.
        fps: frames per second; None is the assumed rate.
        deadline: the deadline of the current call.
    """

    kind: Kind = "array"
    tick = 0.0
    used: NDArray[np.int64] | None = None
    cut_off: str | None = None

    def __init__(self, frames: Any, *, codec: str, fps: float | None, deadline: Deadline) -> None:
        self._frames, self.codec, self.deadline = frames, codec, deadline
        self.frames_decoded = 0
        self.times, self.duration, self.notes = assumed_timeline(len(frames), fps)

    def read(self, indices: list[int], place: Place) -> None:
        """See `Footage.read`."""
        for i in indices:
            self.deadline.check()
            place(i, rgb_bytes(self._frames[i]))
            self.frames_decoded += 1

    def iterate(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """See `Footage.iterate`."""
        return read_one_by_one(self, indices)

    def size(self) -> tuple[int, int]:
        """See `Footage.size`."""
        height, width, _ = self._frames[0].shape
        return height, width

    def close(self) -> None:
        """Release the frames."""
        self._frames = None


def open_array(source: Path | BinaryIO, *, name: str, fps: float | None, limits: Limits) -> ArrayFootage:
    """Open a `.npy` file of uint8 RGB, of shape (T, H, W, 3) or (T, 3, H, W).

    Raises:
        VideoError: the file is damaged, cut off or not such an array, or it exceeds a limit.
    """
    deadline = Deadline(limits.seconds, name)
    with explain_errors(name, why_array_not_opened), reading(source) as file:
        header = _read_header(file)
        shape, start = header.shape, file.tell()
        size = size_of(file) - start
    if header.dtype.hasobject:
        raise VideoError(
            name, "it is an array that cannot be read: it holds Python objects, which could run code. Save it as uint8"
        )
    if not _holds_frames(header):
        raise VideoError(
            name,
            f"it is an array of shape {shape} and type {header.dtype}: "
            "frames are uint8 of shape (T, H, W, 3) or (T, 3, H, W), with at least one frame",
        )
    num_missing = math.prod(shape) - size
    if num_missing > 0:  # checked before allocating as much as the header claims
        raise VideoError(name, f"it is cut off: the last {num_missing} bytes are missing. Copy or write it again")
    height, width = shape[1:3] if shape[3] == 3 else shape[2:]
    limits.check_frames(name, shape[0])
    limits.check_pixels(name, width=width, height=height)
    order: Literal["C", "F"] = "F" if header.is_column_major else "C"
    frames: Any
    if isinstance(source, Path):
        frames = np.memmap(source, np.uint8, "r", offset=start, shape=shape, order=order)
    else:
        limits.check_memory(name, count=shape[0], height=height, width=width)
        frames = np.ndarray(shape, np.uint8, read_at(source, start, math.prod(shape)), order=order)
    if shape[3] != 3:
        frames = frames.transpose(0, 2, 3, 1)
    return ArrayFootage(frames, codec="npy", fps=fps, deadline=deadline)


def is_array_of_frames(path: Path) -> bool:
    """Return whether a file is a `.npy` array of frames, uint8 of shape (T, H, W, 3) or (T, 3, H, W), by its header.

    Raises:
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        try:
            return _holds_frames(_read_header(file))
        except OSError:
            raise
        except Exception:  # another kind of file, or a damaged header, which may raise anything
            return False


def _holds_frames(header: _Header) -> bool:
    shape = header.shape
    return header.dtype == np.uint8 and len(shape) == 4 and 3 in (shape[1], shape[3]) and min(shape) >= 1


def _read_header(file: BinaryIO) -> _Header:
    """Read the header of a `.npy` file, and leave the file at the beginning of the data."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return _Header(*np.lib.format.read_array_header_1_0(file))
    return _Header(*np.lib.format.read_array_header_2_0(file))
