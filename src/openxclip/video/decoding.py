"""Frames from files, bytes, streams, folders and arrays: exactly those asked for, with their times."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.video.containers import ContainerFootage
from openxclip.video.frames import Footage, Frames
from openxclip.video.images import ArrayFootage, FolderFootage, ImageFootage, is_image
from openxclip.video.sampling import Short, frame_range, sample_clips

VideoSource = str | os.PathLike[str] | bytes | BinaryIO

#: Suffixes of the files that a search through folders takes for videos. (Reading goes by content, not by suffix.)
VIDEO_SUFFIXES = frozenset(
    (  # noqa: SIM905 (forty lines otherwise)
        ".3g2 .3gp .asf .avi .divx .dv .f4v .flv .gif .ivf .m1v .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpe "
        ".mpeg .mpg .mts .mxf .nut .obu .ogm .ogv .qt .rm .rmvb .ts .vob .webm .webp .wmv .wtv .y4m"
    ).split()
)


class VideoReader:
    """Random access to the frames of a video, by index and with times.

    A frame is the one that decoding the whole video would yield at that place, bit for bit. Only what it depends on is
    decoded. What the source is, its content says, not its name: a video file; a GIF, WebP or other image (a still image
    is a video of one frame; transparency is shown on white); a folder of images in natural order; a `.npy` array of
    uint8 (T, H, W, 3) or (T, 3, H, W). Playlists, which name other files, are refused.

    Use it as a context manager, or call `close`. Not for use by two threads at once.

    Args:
        source: path, bytes, or file object opened in binary mode (read from its beginning, and left open).
        fps: frames per second of folders and arrays, whose frames carry no times.
        num_threads: threads for decoding; 0 leaves it to FFmpeg (one a core).

    Attributes:
        source: how messages name the source.
        num_frames: how many frames there are, exactly.
        times: when each frame is shown, float64 seconds of shape (num_frames,), ascending, from the container's own
            start: the first is usually 0.0.
        duration: when the last frame ends, in seconds.
        fps: frames per second on average.
        width: of the first frame in pixels, as it is shown.
        height: of the first frame in pixels, as it is shown.
        codec: how it is coded, e.g. "h264".
        frames_decoded: how many frames have been decoded so far.

    Raises:
        VideoError: the source is missing, empty, cut off, damaged, without video, or not a video at all.
        TypeError: `source` is none of the kinds above.
        ValueError: `fps` or `num_threads` is out of its range.
    """

    def __init__(self, source: VideoSource, *, fps: float = 25.0, num_threads: int = 0) -> None:
        if not 0 < fps < float("inf"):
            raise ValueError(f"fps={fps} must be above 0")
        if num_threads < 0:
            raise ValueError(f"num_threads={num_threads} must be 0 (one a core) or more")
        self.source = source_name(source)
        self._footage = _open(source, name=self.source, fps=fps, num_threads=num_threads)

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
        return self._footage.size()[0]

    @property
    def width(self) -> int:  # noqa: D102
        return self._footage.size()[1]

    @property
    def codec(self) -> str:  # noqa: D102
        return self._footage.codec

    @property
    def frames_decoded(self) -> int:  # noqa: D102
        return self._footage.frames_decoded

    def get_frames(self, indices: Sequence[int]) -> Frames:
        """The frames of these indices, in this order; in whatever order and however often, each is decoded once.

        Args:
            indices: frames of the video, each in `[0, num_frames)`.

        Returns:
            As many frames as indices.

        Raises:
            ValueError: no index is given.
            IndexError: an index is outside the video.
            VideoError: one of the frames cannot be decoded, or has another size than the others.
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
                out.append(np.empty((len(order), *frame_HWC.shape), dtype=np.uint8))
            if frame_HWC.shape != out[0].shape[1:]:
                (h, w), (first_h, first_w) = frame_HWC.shape[:2], out[0].shape[1:3]
                raise VideoError(
                    self.source,
                    f"its frames differ in size: frame {index} is {w}×{h} and another {first_w}×{first_h}",
                )
            for slot in slots[index]:
                out[0][slot] = frame_HWC

        self._footage.read(sorted(slots), place)
        return Frames(torch.from_numpy(out[0]), torch.from_numpy(self.times[order]), tuple(order))

    def close(self) -> None:
        """Let go of the file."""
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
    short: Short = "repeat_last",
    fps: float = 25.0,
    num_threads: int = 0,
) -> Frames:
    """One clip over a video: `num_frames` frames at the midpoints of equal segments.

    Args:
        source: as for `VideoReader`.
        num_frames: frames of the clip.
        start: where in the video to begin, in seconds (default: at its start).
        end: where in the video to end, in seconds (default: at its end).
        short: for videos of fewer frames, see `sampling.sample_uniform`.
        fps: as for `VideoReader`.
        num_threads: as for `VideoReader`.

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
        fps=fps,
        num_threads=num_threads,
    )
    return clips[0]


def read_clips(
    source: VideoSource,
    *,
    num_frames: int,
    num_clips: int,
    start: float | None = None,
    end: float | None = None,
    short: Short = "repeat_last",
    fps: float = 25.0,
    num_threads: int = 0,
) -> list[Frames]:
    """Several clips over a video (see `sampling.sample_clips`), in one decode; arguments and errors as `read_clip`."""
    with VideoReader(source, fps=fps, num_threads=num_threads) as reader:
        if start is not None and start >= reader.duration:
            raise VideoError(reader.source, f"it ends at {reader.duration:.2f} s, before start={start} s")
        stretch = frame_range(times=reader.times.tolist(), start=start, end=end)
        if short == "error" and len(stretch) < num_frames:
            raise VideoError(
                reader.source, f"it has {len(stretch)} frames there and {num_frames} are asked for: ask for fewer"
            )
        clips = sample_clips(
            total=len(stretch), num_frames=num_frames, num_clips=num_clips, short=short, first=stretch.start
        )
        frames = reader.get_frames([i for clip in clips for i in clip])
    return [frames.take(slice(c * num_frames, (c + 1) * num_frames)) for c in range(num_clips)]


def source_name(source: VideoSource) -> str:
    """What to call a source in a result or an error: its path, or what it is."""
    if isinstance(source, bytes):
        return f"video of {len(source)} bytes"
    if isinstance(source, str | os.PathLike):
        return os.fspath(source) or "(no path)"
    return str(getattr(source, "name", None) or "file object")


def _open(source: VideoSource, *, name: str, fps: float, num_threads: int) -> Footage:
    if isinstance(source, str | os.PathLike):
        path = Path(source or name)
        try:
            if path.is_dir():
                return FolderFootage(path, name=name, fps=fps)
            head = _head_of_file(path, name)
        except (OSError, ValueError) as error:
            raise VideoError(name, _why_not_read(name, error)) from None
        data: Path | BinaryIO = path
    else:
        data = io.BytesIO(source) if isinstance(source, bytes) else _seekable(source)
        head = data.read(16)
        data.seek(0)
    if not head:
        raise VideoError(name, "it is empty: copy, download or record it again")
    if head.startswith(b"\x93NUMPY"):
        return ArrayFootage(data, name=name, fps=fps)
    is_jpegs = head.startswith(b"\xff\xd8\xff") and Path(name).suffix.lower() in (".mjpeg", ".mjpg")
    if is_image(head) and not is_jpegs:
        return ImageFootage(data, name=name)
    return ContainerFootage(data, name=name, num_threads=num_threads)


def _head_of_file(path: Path, name: str) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):
        raise VideoError(name, "it is neither a file nor a folder (a pipe or a device): pass it as an open file object")
    with path.open("rb") as file:
        return file.read(16)


def _why_not_read(name: str, error: OSError | ValueError) -> str:
    if "://" in name:
        return "it is an address: only local files are read, so download it first"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "there is no such file: check the path"
    if isinstance(error, PermissionError):
        return "reading it is not permitted: check who may read the file and its folder"
    return f"it cannot be read: {getattr(error, 'strerror', None) or error}"


def _seekable(source: BinaryIO) -> BinaryIO:
    """The file at its beginning; one that cannot go back (a pipe) is read into memory."""
    if not hasattr(source, "read"):
        raise TypeError(f"a video is a path, bytes or an open binary file, not {type(source).__name__}")
    if hasattr(source, "seekable") and source.seekable():
        source.seek(0)
        if isinstance(source.read(0), bytes):
            return source
    else:
        data = source.read()
        if isinstance(data, bytes):
            return io.BytesIO(data)
    raise TypeError('the file is open as text: open it in binary mode ("rb")')
