"""Footage in a `.npy` file: an array of frames."""

from __future__ import annotations

import io
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from openxclip.errors import VideoError
from openxclip.video.assumptions import ASSUMED_FPS, FPS_ASSUMED
from openxclip.video.failures import cannot_be_read, machine_failure
from openxclip.video.frames import Place, rgb_bytes, steady_times
from openxclip.video.limits import Deadline, Limits


class ArrayFootage:
    """A `.npy` array of shape (T, H, W, 3) or (T, 3, H, W), uint8 RGB, at `fps`. See `Footage`."""

    codec = "npy"
    tick = 0.0

    def __init__(self, source: Path | BinaryIO, *, name: str, fps: float | None, limits: Limits) -> None:
        self.deadline = Deadline(limits.seconds, name)
        try:
            with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
                shape, by_columns, kind = _array_header(file)
                if kind.hasobject:
                    why = "it holds Python objects, which could be programs. Write it as uint8"
                    raise VideoError(name, f"it is an array that cannot be read: {why}")
                start = file.tell()
                missing = math.prod(shape) * kind.itemsize - (file.seek(0, io.SEEK_END) - start)
                file.seek(start)
        except VideoError:
            raise
        except Exception as error:  # a header is a Python expression, and damage to it as many errors as there are
            if machine_failure(error):
                raise VideoError(name, cannot_be_read(error)) from None
            raise VideoError(
                name, "it is an array that cannot be read: its header is damaged or cut off. Copy or write it again"
            ) from None
        if not _is_of_frames(shape, kind):
            raise VideoError(
                name,
                f"it is an array of shape {shape} and type {kind}: "
                "frames are uint8 of shape (T, H, W, 3) or (T, 3, H, W), with at least one frame",
            )
        if missing > 0:  # before room is made for what the header claims
            raise VideoError(name, f"it is cut off: the last {missing} bytes are missing. Copy or write it again")
        height, width = shape[1:3] if shape[3] == 3 else shape[2:]
        limits.check_frames(name, shape[0])
        limits.check_pixels(name, width=width, height=height)
        order: Literal["C", "F"] = "F" if by_columns else "C"
        if isinstance(source, Path):
            self._array: Any = np.memmap(source, np.uint8, "r", offset=start, shape=shape, order=order)
        else:
            limits.check_memory(name, count=shape[0], height=height, width=width)
            data = source.read(math.prod(shape))
            self._array = np.ndarray(shape, np.uint8, data, order=order)
        if shape[3] != 3:
            self._array = self._array.transpose(0, 2, 3, 1)
        self.frames_decoded = 0
        self.notes: tuple[str, ...] = (FPS_ASSUMED,) if fps is None and shape[0] > 1 else ()
        fps = fps or ASSUMED_FPS
        self.times = steady_times(shape[0], fps)
        self.duration = shape[0] / fps

    def read(self, indices: list[int], place: Place) -> None:
        """As `Footage.read`."""
        for i in indices:
            self.deadline.check()
            place(i, rgb_bytes(self._array[i]))
            self.frames_decoded += 1

    def size(self) -> tuple[int, int]:
        """As `Footage.size`."""
        return self._array.shape[1], self._array.shape[2]

    def close(self) -> None:
        """Let go of the file."""
        self._array = None


def is_array_of_frames(path: Path) -> bool:
    """Whether a file is a `.npy` array whose header says uint8 of shape (T, H, W, 3) or (T, 3, H, W).

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        try:
            shape, _, kind = _array_header(file)
        except OSError:
            raise
        except Exception:  # it is something else, or its header is damaged in one of many ways
            return False
        return _is_of_frames(shape, kind)


def _is_of_frames(shape: tuple[int, ...], kind: np.dtype[Any]) -> bool:
    return kind == np.uint8 and len(shape) == 4 and 3 in (shape[1], shape[3]) and min(shape) >= 1


def _array_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type of a .npy file, read up to where its data begin."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)
