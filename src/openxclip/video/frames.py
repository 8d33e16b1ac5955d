"""Frames of a video, and the interface of every source of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from openxclip.video.assumptions import ASSUMED_FPS, FPS_ASSUMED
from openxclip.video.limits import Deadline

if TYPE_CHECKING:
    import torch

Kind = Literal["video", "image", "images", "array"]

# Takes a decoded frame: its index in the video and its pixels (H, W, 3)
Place = Callable[[int, "NDArray[np.uint8]"], None]


@dataclass(frozen=True)
class Frames:
    """Some frames of a video.

    Attributes:
        frames_THWC: pixels, uint8 RGB of shape (T, H, W, 3).
        times_T: when each frame is shown, float64 seconds of shape (T,).
        indices: the T indices of the frames in the video.
    """

    frames_THWC: torch.Tensor  # noqa: N815
    times_T: torch.Tensor  # noqa: N815
    indices: tuple[int, ...]

    @classmethod
    def from_arrays(
        cls, frames_THWC: NDArray[np.uint8], times_T: NDArray[np.float64], indices: tuple[int, ...]
    ) -> Frames:
        """Wrap arrays without copying them."""
        import torch  # imported late: the decoding process does without it

        return cls(torch.from_numpy(frames_THWC), torch.from_numpy(times_T), indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        frames, times = self.frames_THWC, self.times_T
        text = f"Frames(frames_THWC: {frames.dtype} {tuple(frames.shape)}, times_T: {times.dtype} {tuple(times.shape)}"
        if len(self):
            text += f" from {times[0]:.3f} to {times[-1]:.3f} s, indices: {self.indices[0]} to {self.indices[-1]}"
        return f"{text})"

    def take(self, positions: slice | list[int]) -> Frames:
        """Return the frames at these positions among the T frames, in this order. A slice is a view, not a copy."""
        kept = list(range(len(self)))[positions] if isinstance(positions, slice) else positions
        return Frames(self.frames_THWC[positions], self.times_T[positions], tuple(self.indices[i] for i in kept))


class Footage(Protocol):
    """A source of frames for a `VideoReader`: a video file, an image, a folder or an array.

    Attributes:
        kind: "video" (a container), "image", "images" (a folder) or "array".
        times: when each frame is shown, float64 seconds of shape (num_frames,), ascending.
        duration: when the last frame ends, in seconds.
        tick: the container's rounding of `times`, in seconds; 0 if they aren't rounded.
        codec: how the frames are coded.
        frames_decoded: number of frames decoded so far.
        notes: notes for the user about how the frames were made.
        used: numbers of the frames that may be read, ascending, see `ReadOptions.decode`; None is all.
        deadline: the deadline of the current call, which the caller restarts.
    """

    kind: Kind
    times: NDArray[np.float64]
    duration: float
    tick: float
    codec: str
    used: NDArray[np.int64] | None
    deadline: Deadline

    @property
    def frames_decoded(self) -> int:  # noqa: D102
        ...

    @property
    def cut_off(self) -> str | None:
        """Why the video ends too early (see `ReadOptions.allow_cut_off`); None if it is whole."""

    @property
    def notes(self) -> tuple[str, ...]:  # noqa: D102
        ...

    def read(self, indices: list[int], place: Place) -> None:
        """Decode the frames `indices` (ascending, distinct) and call `place(index, frame_HWC)` for each.

        A frame may be placed again if its first decode turns out to be wrong; the last call counts.
        """

    def iterate(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Decode frames (ascending, distinct) in one pass, and yield each with its index.

        `indices` is read ahead by some thousand frames at most. Other frames may be read between two steps.
        """

    def size(self) -> tuple[int, int]:
        """Return height and width of the first frame in pixels, as shown."""

    def close(self) -> None:
        """Release the file."""


def read_one_by_one(footage: Footage, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Iterate over footage whose `read` keeps its place from one call to the next; see `Footage.iterate`."""
    read: list[tuple[int, NDArray[np.uint8]]] = []
    for index in indices:
        footage.read([index], lambda number, frame_HWC: read.append((number, frame_HWC)))
        yield read.pop()


def assumed_timeline(count: int, fps: float | None) -> tuple[NDArray[np.float64], float, tuple[str, ...]]:
    """Return times, duration and notes for frames without times; without `fps`, the rate is assumed."""
    notes: tuple[str, ...] = (FPS_ASSUMED,) if fps is None and count > 1 else ()
    fps = fps or ASSUMED_FPS
    return np.arange(count) / fps, count / fps, notes


def rgb_bytes(array: Any) -> NDArray[np.uint8]:
    """Return an (H, W, 3) array as contiguous uint8."""
    return np.ascontiguousarray(array, dtype=np.uint8)
