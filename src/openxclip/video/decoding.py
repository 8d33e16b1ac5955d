"""Read frames of videos, images and arrays by index."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from openxclip.common.forking import ForkSafeLock, leak, watch_forks
from openxclip.common.times import format_time
from openxclip.errors import VideoError
from openxclip.video.assumptions import warn_of_assumptions
from openxclip.video.failures import NO_MEMORY, WatchedFile, cannot_be_read, machine_failure, raise_failure
from openxclip.video.frames import Footage, Frames
from openxclip.video.opening import Opener, ReopenableSource, VideoSource, source_name
from openxclip.video.options import ReadOptions
from openxclip.video.partial_decoding import NO_MARKS
from openxclip.video.truncation import COPY_AGAIN

if TYPE_CHECKING:
    from torch import Tensor

_OPEN_IN_WORKER = "open it in the worker"
_ITERATED_BYTES = 64 << 20  # of frames at once; each block decodes again from the key frame before it

# Frames (T, H, W, 3), their times (T,), and their indices.
Arrays = tuple["NDArray[np.uint8]", "NDArray[np.float64]", tuple[int, ...]]


class VideoReader:
    """Random access to the frames of a video, by index and with times.

    A frame equals, bit for bit, the frame that decoding the whole video yields at its index, but only the frames that
    it depends on are decoded. The format is recognised by content, not by name: a video file; a GIF, WebP or other
    image (a still image is a video of one frame; transparency is shown on white); a folder of images in natural order;
    a `.npy` array of uint8 (T, H, W, 3) or (T, 3, H, W). A pipe is read into memory first.

    Addresses, and playlists, which name other files, are refused unless `read.allow_protocols` says what FFmpeg may
    open: the author of a playlist can then make this machine open whatever these protocols reach.

    A reader is a sequence: `len(reader)` is the number of frames, `reader[i]` a frame, `reader[a:b:s]` the `Frames` of
    a slice, and iteration yields every frame.

    Use it as a context manager, or call `close`. Threads may share a reader: they read one after the other, and `close`
    waits for a running read. A forked or spawned worker may use its parent's reader, which opens the source again. A
    reader of a file object can't be passed to a worker, because both would share the position in the file: open it in
    the worker.

    Args:
        source: path (`~` is the home folder), bytes or a buffer (bytearray, memoryview, mmap), or file object opened in
            binary mode (read from its beginning, and left open).
        read: how to open and read the source; default is `ReadOptions()`.

    Attributes:
        source: the name of the source in messages.
        limits: limits of what reading may cost.
        num_frames: the exact number of frames.
        times: when each frame is shown, float64 seconds of shape (num_frames,), ascending, from the container's own
            start: the first is usually 0.0.
        duration: when the last frame ends, in seconds.
        tick: the unit to which the container rounds times, in seconds; 0 if the frames carry no times.
        fps: average number of frames per second.
        width, height: size of the first frame in pixels, as it is shown.
        codec: name of the codec, such as "h264".
        frames_decoded: number of frames decoded so far.
        notes: sentences for the user on how the frames were made; complete once frames have been read.

    Raises:
        VideoError: the source is missing, empty, cut off, damaged, without video, or not a video at all; or it exceeds
            a limit.
        TypeError: `source` is none of the kinds above.

    Examples:
        >>> from openxclip.video import VideoReader
        >>> with VideoReader("samples/cat_moves_left.mp4") as video:
        ...     print(len(video), video[0].shape, video[4:8].frames_THWC.shape)
        48 torch.Size([256, 256, 3]) torch.Size([4, 256, 256, 3])
    """

    def __init__(self, source: VideoSource, *, read: ReadOptions | None = None) -> None:
        self.source = source_name(source)
        self._opener = Opener(self.source, read or ReadOptions())
        self._open(self._opener.make_reopenable(source))

    def _open(self, reopenable: ReopenableSource) -> None:
        self._lock = ForkSafeLock()
        self._reopenable, self._closed, self._size = reopenable, False, (0, 0)
        self._pid = os.getpid()
        self._footage = self._open_footage()
        self.limits, self.tick, self.codec = self._opener.read.limits, self._footage.tick, self._footage.codec

    def _open_footage(self) -> Footage:
        with _only_video_errors(self.source, self._reopenable):
            return self._opener.open(self._reopenable)

    def __getstate__(self) -> dict[str, Any]:
        if isinstance(self._reopenable, WatchedFile):
            raise TypeError(
                f"{self.source}: a reader of an open file cannot be sent to another process: {_OPEN_IN_WORKER}"
            )
        return {"source": self.source, "opener": self._opener, "reopenable": self._reopenable}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.source, self._opener = state["source"], state["opener"]
        self._open(state["reopenable"])

    @contextmanager
    def locked_footage(self) -> Iterator[Footage]:
        """Yield the footage to one thread at a time; in a forked process, open the source again first."""
        with self._lock:
            if self._closed:
                raise VideoError(self.source, "its reader has been closed: open it again")
            if self._pid != os.getpid():
                self._reopen()
            with _only_video_errors(self.source, self._reopenable):
                yield self._footage

    def _reopen(self) -> None:
        """Open the source again in a forked process, without touching the parent's footage (see `forking`)."""
        if isinstance(self._reopenable, WatchedFile):
            raise VideoError(
                self.source,
                f"its file object is shared with the process that this one was forked from: {_OPEN_IN_WORKER}",
            )
        times = self.times
        self._footage = self._open_footage()
        if not np.array_equal(times, self.times):
            raise VideoError(self.source, "it has changed since it was opened: open it again")
        self._pid = os.getpid()

    def __len__(self) -> int:
        return self.num_frames

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> Frames: ...

    def __getitem__(self, index: int | slice) -> Tensor | Frames:
        """Return a frame, uint8 RGB of shape (H, W, 3), or the `Frames` of a slice.

        Args:
            index: the index of a frame, counted from the end if it is negative; or a slice that isn't empty.

        Raises:
            IndexError: the index is outside the video.
            ValueError: the slice is empty.
            VideoError: a frame cannot be decoded, or the frames exceed a limit.
        """
        if isinstance(index, slice):
            return self.get_frames(range(*index.indices(len(self))))
        number = operator.index(index)
        if number < -len(self):
            raise self._index_error(number)
        return self.get_frames([number + len(self) if number < 0 else number]).frames_THWC[0]

    def __iter__(self) -> Iterator[Tensor]:
        """Yield every frame, uint8 RGB of shape (H, W, 3); up to 64 MiB of frames are decoded at once."""
        max_bytes = min(_ITERATED_BYTES, self.limits.memory or _ITERATED_BYTES)
        step = max(1, max_bytes // (self.height * self.width * 3))
        for first in range(0, len(self), step):
            yield from self[first : first + step].frames_THWC

    def _index_error(self, number: int) -> IndexError:
        return IndexError(f"frame {number} is outside {self.source}: it has frames 0 to {len(self) - 1}")

    @property
    def num_frames(self) -> int:  # noqa: D102 (attributes are described above)
        return len(self._footage.times)

    @property
    def times(self) -> NDArray[np.float64]:  # noqa: D102
        return self._footage.times

    @property
    def duration(self) -> float:  # noqa: D102
        return self._footage.duration

    @property
    def fps(self) -> float:  # noqa: D102
        times = self._footage.times
        return (len(times) - 1) / float(times[-1] - times[0]) if len(times) > 1 else 1 / self.duration

    @property
    def height(self) -> int:  # noqa: D102
        return self._frame_size()[0]

    @property
    def width(self) -> int:  # noqa: D102
        return self._frame_size()[1]

    @property
    def frames_decoded(self) -> int:  # noqa: D102
        return self._footage.frames_decoded

    @property
    def notes(self) -> tuple[str, ...]:  # noqa: D102
        notes = self._footage.notes
        if self._opener.read.decode != "all" and self._footage.kind != "video" and self.num_frames > 1:
            return (*notes, NO_MARKS)
        return notes

    @property
    def cut_off(self) -> VideoError | None:
        """The error of a video that is cut off, if it was opened with `ReadOptions.allow_cut_off`; else None.

        It says up to where the video was read.
        """
        reason = self._footage.cut_off
        if reason is None:
            return None
        return VideoError(self.source, f"{reason}; it was read up to {format_time(self.duration)}. {COPY_AGAIN}")

    def used_frames(self, indices: Sequence[int]) -> list[int]:
        """Return the frame that is read for each of these: itself, unless `ReadOptions.decode` leaves it out."""
        used = self._footage.used
        if used is None:
            return [int(i) for i in indices]
        chosen: list[int] = used[np.maximum(np.searchsorted(used, indices, side="right") - 1, 0)].tolist()
        return chosen

    def get_frames(self, indices: Sequence[int]) -> Frames:
        """Read the frames of these indices, in this order. A repeated index is decoded once.

        With `ReadOptions.decode`, a frame may stand for later ones: the result has its index and time.

        Args:
            indices: indices of frames, each in `[0, num_frames)`.

        Returns:
            One frame per index.

        Raises:
            ValueError: no index is given.
            IndexError: an index is outside the video.
            VideoError: a frame cannot be decoded, or the frames exceed a limit.
        """
        with self._lock:  # so that threads don't restart each other's time limit
            self.restart_clock()
            arrays = self.get_arrays(indices)
        return Frames.from_arrays(*arrays)

    def get_arrays(
        self, indices: Sequence[int], *, allocate: Callable[[tuple[int, ...]], NDArray[np.uint8]] | None = None
    ) -> Arrays:
        """Read frames as `get_frames` does, but without PyTorch and without restarting the time limit.

        Args:
            indices: as for `get_frames`.
            allocate: returns an array of uint8 of the given shape, into which the frames are written; default is a new
                array.

        Returns:
            The frames (T, H, W, 3), their times (T,), and their indices.
        """
        order = [int(i) for i in indices]
        if not order:
            raise ValueError("indices is empty: ask for at least one frame")
        for i in order:
            if not 0 <= i < self.num_frames:
                raise self._index_error(i)
        order = self.used_frames(order)
        slots: dict[int, list[int]] = {}
        for slot, i in enumerate(order):
            slots.setdefault(i, []).append(slot)
        out: list[NDArray[np.uint8]] = []  # one array, allocated for the first frame

        def place(index: int, frame_HWC: NDArray[np.uint8]) -> None:
            if not out:
                height, width = frame_HWC.shape[:2]
                self.limits.check_memory(self.source, count=len(order), height=height, width=width)
                shape = (len(order), height, width, 3)
                out.append(allocate(shape) if allocate is not None else np.empty(shape, dtype=np.uint8))
            if frame_HWC.shape != out[0].shape[1:]:
                raise size_error(self.source, index, frame_HWC.shape, out[0].shape[1:])
            for slot in slots[index]:
                out[0][slot] = frame_HWC

        with self.locked_footage() as footage:
            footage.read(sorted(slots), place)
        warn_of_assumptions(self.notes)
        return out[0], self.times[order], tuple(order)

    def iterate(self, indices: Iterable[int]) -> Generator[tuple[int, NDArray[np.uint8]], None, None]:
        """Yield frames one by one, each with its index, in one pass over the video; nothing is decoded twice.

        The lock is held only during each step, so other frames may be read between two steps. The time limit isn't
        restarted.

        Args:
            indices: distinct indices of frames, ascending. They are taken some thousand frames ahead.

        Raises:
            VideoError: a frame cannot be decoded.
            RuntimeError: a forked process goes on with an iteration that its parent began.
        """
        with self.locked_footage() as footage:
            steps = footage.iterate(indices)
        watched = _NotForForks(steps)
        step: tuple[int, NDArray[np.uint8]] | None = None
        while True:
            watched.check()
            with self.locked_footage() as footage:
                step = next(steps, None)
            if step is None:
                return
            yield step

    def restart_clock(self) -> None:
        """Start the time limit of a call."""
        with self._lock:
            self._footage.deadline.restart()

    def _frame_size(self) -> tuple[int, int]:
        with self._lock:
            if self._size == (0, 0):
                self.restart_clock()
                with self.locked_footage() as footage:
                    self._size = footage.size()
            return self._size

    def close(self) -> None:
        """Close the file; a file object given by the caller stays open."""
        with self._lock:
            self._closed = True
            if self._pid == os.getpid():  # a forked process must not free inherited memory: see `forking`
                self._footage.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"VideoReader({self.source!r}, {self.num_frames} frames, {self.duration:.2f} s, {self.codec})"


def size_error(source: str, index: int, shape: tuple[int, ...], other: tuple[int, ...]) -> VideoError:
    """Return the error for a frame, of shape (H, W, 3), that has another size than the frames before it."""
    return VideoError(
        source,
        f"its frames differ in size: frame {index} is {shape[1]}×{shape[0]} and another {other[1]}×{other[0]}: "
        "make them all of one size",
    )


class _NotForForks:
    """Marks an iterator that a forked process can neither use nor free, because it holds a decoder's frames."""

    def __init__(self, steps: object) -> None:
        self._steps, self._pid = steps, os.getpid()
        watch_forks(self)

    def after_fork(self) -> None:
        """See `forking`."""
        leak(self._steps)

    def check(self) -> None:
        """Raise a RuntimeError in a forked process."""
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this forked process can't go on reading where its parent was: start reading again in it"
            )


@contextmanager
def _only_video_errors(name: str, source: ReopenableSource) -> Iterator[None]:
    """Turn every exception into a `VideoError` that says whether the source cannot be read or is damaged.

    Damaged data can make libraries raise any exception. A failure of the machine or of the caller's file object is
    reported as such, even if a library swallowed it.
    """
    if isinstance(source, WatchedFile):
        source.forget()
    try:
        yield
    except MemoryError:
        raise VideoError(name, NO_MEMORY) from None
    except Exception as error:
        raise_failure(name, source)
        if isinstance(error, VideoError):
            raise
        if machine_failure(error):
            raise VideoError(name, cannot_be_read(error)) from error
        text = " ".join(str(error).split())
        failed = f"reading it failed with {type(error).__name__} ({text})"
        raise VideoError(name, f"it is damaged: {failed}. Copy or download it again") from error
    raise_failure(name, source)
