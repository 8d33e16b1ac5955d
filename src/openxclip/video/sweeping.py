"""Read the frames of all windows of a video in one pass, a piece at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openxclip.video.assumptions import warn_of_assumptions
from openxclip.video.clips import Clip, PlannedClips
from openxclip.video.decoding import VideoReader, size_error

_PIECE_BYTES = 32 << 20  # of decoded frames
_PIECE_FRAMES = 256  # the most frames in a piece, which is read within one time limit
_PIECE_WINDOWS = 16  # a piece ends when so many windows are complete


def _new_array(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.empty(shape, dtype=np.uint8)


class SweptPiece(NamedTuple):
    """Some frames, and the windows whose last frame is among them.

    Attributes:
        frames_THWC: pixels, uint8 RGB of shape (T, H, W, 3).
        times_T: when each frame is shown, float64 seconds of shape (T,).
        indices: the T indices of the frames in the video, ascending.
        clips: the windows. Their frames are in this piece or in earlier ones.
        keep_from: no later window needs a frame before this one.
        is_last: whether no more pieces follow.
    """

    frames_THWC: NDArray[np.uint8]  # noqa: N815
    times_T: NDArray[np.float64]  # noqa: N815
    indices: list[int]
    clips: list[Clip]
    keep_from: int
    is_last: bool


class Sweep:
    """Reads the frames that windows need in the order of the video, each once, however many windows share it.

    Args:
        reader: the video.
        clips: the windows.
        first: number of windows to skip.
        after: the last frame that an earlier sweep has read; -1 if there was none. Then `first` is the number of the
            windows that were complete.
        every: whether to read every frame from the first window on.
    """

    def __init__(
        self, reader: VideoReader, clips: PlannedClips, *, first: int = 0, after: int = -1, every: bool = False
    ) -> None:
        self._reader, self._clips, self._every = reader, clips, every
        self.first, self.after = first, after
        self._ahead: deque[Clip] = deque()  # the windows from `first` on whose frames have been listed
        self._end = reader.used_frames([reader.num_frames - 1])[0]  # the last frame
        self._shape: tuple[int, ...] | None = None
        self._most = 1
        self._steps = reader.iterate(self._every_frame() if every else self._frames_needed())

    def _every_frame(self) -> Iterator[int]:
        begin = self._clips.first_frame(self.first) if self.after < 0 else self.after + 1
        last = -1
        for number in range(begin, self._reader.num_frames):
            (used,) = self._reader.used_frames([number])
            if used > last and used >= begin:
                last = used
                yield used

    def _frames_needed(self) -> Iterator[int]:
        """Yield the frames that windows need, ascending, looking only at the windows around them."""
        after, waiting = self.after, set[int]()
        for number in range(self.first, len(self._clips)):
            begin = self._clips.first_frame(number)
            ready = sorted(index for index in waiting if index < begin)
            waiting.difference_update(ready)
            yield from ready
            clip = self._clips[number]
            waiting.update(index for index in clip.indices if index > after)
            self._ahead.append(clip)
        yield from sorted(waiting)

    def next_piece(self, allocate: Callable[[tuple[int, ...]], NDArray[np.uint8]] = _new_array) -> SweptPiece | None:
        """Read the next frames; return None if there are none.

        Args:
            allocate: returns an array of uint8 of the given shape, whose first rows will hold the frames.

        Raises:
            VideoError: a frame cannot be decoded, or the frames exceed a limit.
            RuntimeError: a forked process goes on with a sweep that its parent began.
        """
        out: NDArray[np.uint8] | None = None
        indices, clips = list[int](), list[Clip]()
        is_last = False
        for number, frame_HWC in self._steps:
            self._check_shape(number, frame_HWC)
            if out is None:
                out = allocate((self._most, *frame_HWC.shape))
            out[len(indices)] = frame_HWC
            indices.append(number)
            clips += self._complete(number)
            self.after = number
            is_last = self.first >= len(self._clips) and not (self._every and number < self._end)
            if is_last or len(indices) == self._most or len(clips) >= _PIECE_WINDOWS:
                break
        if out is None:
            return None
        warn_of_assumptions(self._reader.notes)
        keep_from = self._clips.first_frame(self.first)
        return SweptPiece(out[: len(indices)], self._reader.times[indices], indices, clips, keep_from, is_last)

    def _check_shape(self, number: int, frame_HWC: NDArray[np.uint8]) -> None:
        reader, (height, width) = self._reader, frame_HWC.shape[:2]
        if self._shape is None:
            self._shape = frame_HWC.shape
            together = min(self._clips.frames_per_clip, reader.num_frames)
            reader.limits.check_memory(reader.source, count=together, height=height, width=width)
            most = min(_PIECE_BYTES, reader.limits.memory or _PIECE_BYTES) // frame_HWC.nbytes
            self._most = max(1, min(most, _PIECE_FRAMES, reader.num_frames))
        elif frame_HWC.shape != self._shape:
            raise size_error(reader.source, number, frame_HWC.shape, self._shape)

    def _complete(self, number: int) -> Iterator[Clip]:
        """Yield the windows, in order, all of whose frames have been read once frame `number` has."""
        while self.first < len(self._clips):
            clip = self._ahead[0] if self._ahead else self._clips[self.first]
            if max(clip.indices) > number:
                return
            if self._ahead:
                self._ahead.popleft()
            self.first += 1
            yield clip
