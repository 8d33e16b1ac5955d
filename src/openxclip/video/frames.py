"""What comes out of a video, and what every kind of footage must be able to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openxclip.video.limits import Deadline

if TYPE_CHECKING:
    import torch

Place = Callable[[int, "NDArray[np.uint8]"], None]


@dataclass(frozen=True)
class Frames:
    """Some frames of a video.

    Attributes:
        frames_THWC: pixels, uint8 RGB of shape (T, H, W, 3).
        times_T: when each is shown, float64 seconds of shape (T,).
        indices: which frames of the video these are, T of them.
    """

    frames_THWC: torch.Tensor  # noqa: N815
    times_T: torch.Tensor  # noqa: N815
    indices: tuple[int, ...]

    @classmethod
    def from_arrays(
        cls, frames_THWC: NDArray[np.uint8], times_T: NDArray[np.float64], indices: tuple[int, ...]
    ) -> Frames:
        """The same from arrays, which are not copied."""
        import torch  # here, for the reading of files does without it (see `worker`)

        return cls(torch.from_numpy(frames_THWC), torch.from_numpy(times_T), indices)

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, positions: slice | list[int]) -> Frames:
        """Only the frames at these positions (not video indices), in this order."""
        kept = list(range(len(self)))[positions] if isinstance(positions, slice) else positions
        # (a slice of a tensor is no copy, a list of positions is)
        return Frames(self.frames_THWC[positions], self.times_T[positions], tuple(self.indices[i] for i in kept))


class Footage(Protocol):
    """Where the frames of a VideoReader come from: a video file, an image, a folder or an array.

    Attributes:
        times: when each frame is shown, float64 seconds of shape (num_frames,), ascending.
        duration: when the last frame ends, in seconds.
        tick: what `times` were rounded to by the container, in seconds; 0 if they weren't.
        codec: how the frames are coded.
        frames_decoded: how many frames have been decoded so far.
        notes: what a user should know of how the frames were made.
        deadline: when the present call has to be done; whoever calls sets it anew.
    """

    times: NDArray[np.float64]
    duration: float
    tick: float
    codec: str
    deadline: Deadline

    @property
    def frames_decoded(self) -> int:  # noqa: D102
        ...

    @property
    def notes(self) -> tuple[str, ...]:  # noqa: D102
        ...

    def read(self, indices: list[int], place: Place) -> None:
        """Decode the frames `indices` (ascending, each once) and hand each as `place(index, frame_HWC)`.

        A frame may be placed twice, the second time rightly, where the first reading proved wrong.
        """

    def size(self) -> tuple[int, int]:
        """Height and width of the first frame in pixels, as it is shown."""

    def close(self) -> None:
        """Let go of the file."""


def steady_times(count: int, fps: float) -> NDArray[np.float64]:
    """Times of `count` frames that carry none, at `fps` frames per second."""
    return np.arange(count, dtype=np.float64) / fps


def rgb_bytes(array: Any) -> NDArray[np.uint8]:
    """An (H, W, 3) uint8 array with its bytes in order."""
    return np.ascontiguousarray(array, dtype=np.uint8)
