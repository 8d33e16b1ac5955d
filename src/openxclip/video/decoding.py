"""Frames from files, bytes, streams, folders and arrays: exactly those asked for, with their times."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.common.forking import ForkSafeLock
from openxclip.errors import VideoError
from openxclip.video.assumptions import warn_of
from openxclip.video.choosing import choose_clips
from openxclip.video.failures import NO_MEMORY, WatchedFile, cannot_be_read, machine_failure, raise_failure
from openxclip.video.frames import Footage, Frames
from openxclip.video.limits import DEFAULT_LIMITS, Deadline, Limits
from openxclip.video.opening import Opener, Settled, VideoSource, check_protocols, check_track, source_name
from openxclip.video.sampling import Sampling, Short, check_fps

_IN_WORKER = "open it in the worker"

# Makes room for frames: from a shape to an array of uint8.
MakeRoom = Callable[[tuple[int, ...]], "NDArray[np.uint8]"]


class VideoReader:
    """Random access to the frames of a video, by index and with times.

    A frame is the one that decoding the whole video would yield at that place, bit for bit. Only what it depends on is
    decoded. What the source is, its content says, not its name: a video file; a GIF, WebP or other image (a still image
    is a video of one frame; transparency is shown on white); a folder of images in natural order; a `.npy` array of
    uint8 (T, H, W, 3) or (T, 3, H, W). A pipe is read into memory first.

    Playlists, which name other files, and addresses are refused unless `allow_protocols` says what FFmpeg may open:
    then whoever wrote the playlist makes this machine open whatever these protocols reach.

    Use it as a context manager, or call `close`. Threads may share a reader: their reads come one after the other, and
    `close` waits for the read that goes on. A forked or spawned worker may use the reader of its parent: it opens the
    source again. This is refused for a file object, whose place in the file would be shared with the parent: open it in
    the worker.

    Args:
        source: path (`~` is the home folder), bytes or a buffer (bytearray, memoryview, mmap), or file object opened in
            binary mode (read from its beginning, and left open).
        fps: frames per second of folders and arrays, whose frames carry no times. Without it 25 are assumed, which is
            noted, and warned of when frames are read.
        num_threads: threads for decoding; 0 is one a core, or one alone where that is faster.
        track: which of several video tracks, counted from 0 in the order of the file; None is the one that players
            show: one with the flag "default", then the one with the higher bit rate. Covers don't count.
        limits: what reading it may cost, see `Limits`.
        allow_protocols: FFmpeg's names of what may be opened beside the source itself, such as "https", "tls", "tcp"
            (an https address takes all three) or "file" (what a playlist on this machine names).

    Attributes:
        source: how messages name the source.
        num_frames: how many frames there are, exactly.
        times: when each frame is shown, float64 seconds of shape (num_frames,), ascending, from the container's own
            start: the first is usually 0.0.
        duration: when the last frame ends, in seconds.
        tick: what the container rounds times to, in seconds; 0 if the frames carry no times.
        fps: frames per second on average.
        width: of the first frame in pixels, as it is shown.
        height: of the first frame in pixels, as it is shown.
        codec: how it is coded, e.g. "h264".
        frames_decoded: how many frames have been decoded so far.
        notes: what should be known of how the frames were made, in words; complete once frames were read.

    Raises:
        VideoError: the source is missing, empty, cut off, damaged, without video, or not a video at all; or it takes
            more than its limits.
        TypeError: `source` is none of the kinds above.
        ValueError: `fps`, `num_threads` or `track` is out of its range.
    """

    def __init__(
        self,
        source: VideoSource,
        *,
        fps: float | None = None,
        num_threads: int = 0,
        track: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        allow_protocols: Sequence[str] = (),
    ) -> None:
        check_fps(fps)
        check_track(track)
        if num_threads < 0:
            raise ValueError(f"num_threads={num_threads} must be 0 (one a core) or more")
        self.source = source_name(source)
        self.limits = limits
        self._opener = Opener(self.source, fps, num_threads, limits, check_protocols(allow_protocols), track)
        self._open(self._opener.settle(source))

    def _open(self, settled: Settled) -> None:
        self._lock = ForkSafeLock()
        self._settled, self._closed, self._shape = settled, False, (0, 0)
        self._pid = os.getpid()
        self._footage = self._opened()

    def _opened(self) -> Footage:
        with _only_video_errors(self.source, self._settled):
            return self._opener.open(self._settled)

    def __getstate__(self) -> dict[str, Any]:
        if isinstance(self._settled, WatchedFile):
            raise TypeError(f"{self.source}: a reader of an open file cannot be sent to another process: {_IN_WORKER}")
        return {"source": self.source, "limits": self.limits, "opener": self._opener, "settled": self._settled}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.source, self.limits, self._opener = state["source"], state["limits"], state["opener"]
        self._open(state["settled"])

    @contextmanager
    def in_use(self) -> Iterator[Footage]:
        """The footage, for one thread at a time and opened by this process."""
        with self._lock:
            if self._closed:
                raise VideoError(self.source, "its reader has been closed: open it again")
            if self._pid != os.getpid():
                self._reopen()
            with _only_video_errors(self.source, self._settled):
                yield self._footage

    def _reopen(self) -> None:
        """Open it again in a forked process. The footage of the parent is left alone: see `forking`."""
        if isinstance(self._settled, WatchedFile):
            raise VideoError(
                self.source, f"its file object is shared with the process that this one was forked from: {_IN_WORKER}"
            )
        times = self.times
        self._footage = self._opened()
        if not np.array_equal(times, self.times):
            raise VideoError(self.source, "it has changed since it was opened: open it again")
        self._pid = os.getpid()

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
    def tick(self) -> float:  # noqa: D102
        return self._footage.tick

    @property
    def fps(self) -> float:  # noqa: D102
        times = self._footage.times
        return (len(times) - 1) / float(times[-1] - times[0]) if len(times) > 1 else 1 / self.duration

    @property
    def height(self) -> int:  # noqa: D102
        return self._size()[0]

    @property
    def width(self) -> int:  # noqa: D102
        return self._size()[1]

    @property
    def codec(self) -> str:  # noqa: D102
        return self._footage.codec

    @property
    def frames_decoded(self) -> int:  # noqa: D102
        return self._footage.frames_decoded

    @property
    def notes(self) -> tuple[str, ...]:  # noqa: D102
        return self._footage.notes

    def get_frames(self, indices: Sequence[int]) -> Frames:
        """The frames of these indices, in this order; in whatever order and however often, each is decoded once.

        Args:
            indices: frames of the video, each in `[0, num_frames)`.

        Returns:
            As many frames as indices.

        Raises:
            ValueError: no index is given.
            IndexError: an index is outside the video.
            VideoError: one of the frames cannot be decoded, or they take more than the limits.
        """
        with self._lock:  # so that the clock of one thread isn't another's
            self.restart_clock()
            arrays = self.get_arrays(indices, make_room=_in_memory)
        return Frames.from_arrays(*arrays)

    def get_arrays(
        self, indices: Sequence[int], *, make_room: MakeRoom
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64], tuple[int, ...]]:
        """As `get_frames`, without PyTorch, within the time that is left of the limit.

        Args:
            indices: as for `get_frames`.
            make_room: gives an array of uint8 of a shape, for the frames.

        Returns:
            frames (T, H, W, 3), their times (T,), and their indices.
        """
        order = [int(i) for i in indices]
        if not order:
            raise ValueError("indices is empty: ask for at least one frame")
        for i in order:
            if not 0 <= i < self.num_frames:
                raise IndexError(f"frame {i} is outside {self.source}: it has frames 0 to {self.num_frames - 1}")
        slots: dict[int, list[int]] = {}
        for slot, i in enumerate(order):
            slots.setdefault(i, []).append(slot)
        out: list[NDArray[np.uint8]] = []

        def place(index: int, frame_HWC: NDArray[np.uint8]) -> None:
            if not out:
                height, width = frame_HWC.shape[:2]
                self.limits.check_memory(self.source, count=len(order), height=height, width=width)
                out.append(make_room((len(order), height, width, 3)))
            if frame_HWC.shape != out[0].shape[1:]:
                (h, w), (first_h, first_w) = frame_HWC.shape[:2], out[0].shape[1:3]
                raise VideoError(
                    self.source,
                    f"its frames differ in size: frame {index} is {w}×{h} and another {first_w}×{first_h}: "
                    "make them all of one size",
                )
            for slot in slots[index]:
                out[0][slot] = frame_HWC

        with self.in_use() as footage:
            footage.read(sorted(slots), place)
            notes = footage.notes
        warn_of(notes)
        return out[0], self.times[order], tuple(order)

    def restart_clock(self) -> None:
        """Allow what follows the whole limit of time."""
        with self._lock:
            self._footage.deadline = Deadline(self.limits.seconds, self.source)

    def _size(self) -> tuple[int, int]:
        with self._lock:
            if self._shape == (0, 0):
                self.restart_clock()
                with self.in_use() as footage:
                    self._shape = footage.size()
            return self._shape

    def close(self) -> None:
        """Let go of the file; a file object given by the caller stays open."""
        with self._lock:
            self._closed = True
            if self._pid == os.getpid():  # a forked process must not free what it inherited: see `forking`
                self._footage.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"VideoReader({self.source!r}, {self.num_frames} frames, {self.duration:.2f} s, {self.codec})"


def read_clip(
    source: VideoSource,
    *,
    num_frames: int,
    start: float | None = None,
    end: float | None = None,
    short: Short = "spread",
    sampling: Sampling = "time",
    fps: float | None = None,
    num_threads: int = 0,
    track: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    allow_protocols: Sequence[str] = (),
) -> Frames:
    """One clip over a video: `num_frames` frames at the midpoints of equal segments.

    Args:
        source: as for `VideoReader`.
        num_frames: frames of the clip.
        start: where in the video to begin, in seconds (default: at its start).
        end: where in the video to end, in seconds (default: at its end).
        short: for videos of fewer frames, see `sampling.sample_uniform`.
        sampling: "time", or "frames" to count frames as the authors do, see `sampling.Timeline`.
        fps: as for `VideoReader`.
        num_threads, track: as for `VideoReader`.
        limits: as for `VideoReader`; `seconds` holds for opening and reading together.
        allow_protocols: as for `VideoReader`.

    Raises:
        VideoError: as `VideoReader`, or the video ends before `start`, or is too short where `short` is "error".
        ValueError: an argument is out of its range.
    """
    clips = read_clips(
        source,
        num_frames=num_frames,
        num_clips=1,
        start=start,
        end=end,
        short=short,
        sampling=sampling,
        fps=fps,
        num_threads=num_threads,
        track=track,
        limits=limits,
        allow_protocols=allow_protocols,
    )
    return clips[0]


def read_clips(
    source: VideoSource,
    *,
    num_frames: int,
    num_clips: int,
    start: float | None = None,
    end: float | None = None,
    short: Short = "spread",
    sampling: Sampling = "time",
    fps: float | None = None,
    num_threads: int = 0,
    track: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    allow_protocols: Sequence[str] = (),
) -> list[Frames]:
    """Several clips over a video (see `sampling.sample_clips`), in one decode; arguments and errors as `read_clip`."""
    with VideoReader(
        source, fps=fps, num_threads=num_threads, track=track, limits=limits, allow_protocols=allow_protocols
    ) as reader:
        clips = choose_clips(
            reader, num_frames=num_frames, num_clips=num_clips, start=start, end=end, short=short, sampling=sampling
        )
        arrays = reader.get_arrays([i for clip in clips for i in clip], make_room=_in_memory)
    frames = Frames.from_arrays(*arrays)
    return [frames.take(slice(c * num_frames, (c + 1) * num_frames)) for c in range(num_clips)]


@contextmanager
def _only_video_errors(name: str, source: Settled) -> Iterator[None]:
    """Make every failure a `VideoError` that says whether the source cannot be read, or is damaged.

    Damage makes libraries fail in ways that nobody has thought of. A failure of the machine or of the caller's file
    object is none of the video's, also where a library swallowed it.
    """
    if isinstance(source, WatchedFile):
        source.forget()
    try:
        yield
    except VideoError:
        raise_failure(name, source)
        raise
    except MemoryError:
        raise VideoError(name, NO_MEMORY) from None
    except Exception as error:
        raise_failure(name, source)
        if machine_failure(error):
            raise VideoError(name, cannot_be_read(error)) from error
        what = " ".join(str(error).split())
        failed = f"reading it failed with {type(error).__name__} ({what})"
        raise VideoError(name, f"it is damaged: {failed}. Copy or download it again") from error
    raise_failure(name, source)


def _in_memory(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.empty(shape, dtype=np.uint8)
