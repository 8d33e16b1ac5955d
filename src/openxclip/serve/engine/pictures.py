"""Frames as JPEG, and videos as small H.264 files that every browser plays."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openxclip.common.files import atomic_file
from openxclip.errors import VideoError
from openxclip.video import ClipPlan, DecodeWorker, ReadOptions
from openxclip.video.reading import ClipPiece

OnProgress = Callable[[float, float], object]

MAX_WIDTH = 3840

_ALL_FRAMES = ClipPlan(num_frames=1, window=2.0, all_frames=True)
_AS_FAR_AS_POSSIBLE = ReadOptions(allow_cut_off=True)
_MAX_FPS = 30.0
_MAX_ASPECT, _MIN_SIDE = 4, 16  # wider or higher pictures are squeezed; encoders need some pixels
_UNITS = 90_000  # in a second: exact for all usual frame rates
_QUALITY = {"crf": "27", "preset": "veryfast", "g": "30"}  # a key frame a second: players jump there at once
_JPEG_QUALITY = 80


def jpeg(frame_HWC: NDArray[np.uint8], *, width: int) -> bytes:
    """Return a frame as JPEG, reduced to `width` pixels if it is wider."""
    height = frame_HWC.shape[0] * width // frame_HWC.shape[1]
    image = Image.fromarray(frame_HWC)
    if width < frame_HWC.shape[1]:
        image = image.resize((width, min(max(1, height), _MAX_ASPECT * width)), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_JPEG_QUALITY)
    return data.getvalue()


def write_preview(
    worker: DecodeWorker, path: Path, out: Path, *, height: int, on_progress: OnProgress
) -> dict[str, Any]:
    """Write a video as H.264 (yuv420p, MP4) without sound. Frames keep their times, at most 30 a second.

    Args:
        worker: reads the video.
        path: the video; of one that is cut off or damaged, the preview shows the part before.
        out: the file to write; a partial file is never left behind.
        height: the most rows of the preview; smaller videos keep their size.
        on_progress: called with the time reached and the duration, in seconds.

    Returns:
        "duration" in seconds, "width", "height", "size" in bytes, and "error": why the end is missing, or None.

    Raises:
        VideoError: the video can't be read.
        OSError: the file can't be written.
        ValueError: the height is too small.
    """
    if height < _MIN_SIDE:
        raise ValueError(f"height={height}: must be {_MIN_SIDE} pixels or more.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as partial, partial.open("wb") as file:
        preview = _Preview(file, height)
        try:
            for piece in worker.read_planned(str(path), _ALL_FRAMES, bytes_kept=0, read=_AS_FAR_AS_POSSIBLE):
                preview.add(piece)
                on_progress(preview.time, piece.duration)
                del piece  # frees its frames before the next ones are read
        except VideoError as error:
            on_progress(preview.time, preview.duration)  # if the task was cancelled, this raises the right error
            if type(error) is not VideoError or not preview.has_frames:
                raise
            preview.error = error.reason
        finally:
            preview.close()
        width, rows = preview.size
        facts = {"duration": preview.duration, "width": width, "height": rows, "error": preview.error}
        return {**facts, "size": file.seek(0, io.SEEK_END)}


class _Preview:
    """A preview that is being written.

    Attributes:
        time, duration: time of the last frame, and duration of the video, in seconds.
        size: width and height in pixels; (0, 0) before the first frame.
        error: why the video can't be read to its end.
    """

    def __init__(self, file: BinaryIO, most_rows: int) -> None:
        self.time, self.duration, self.size = -math.inf, 0.0, (0, 0)
        self.error: str | None = None
        self._most_rows = most_rows
        self._container: Any = av.open(file, "w", format="mp4")
        self._stream: Any = None
        self._is_closed = False

    @property
    def has_frames(self) -> bool:
        """Whether a frame was written."""
        return self._stream is not None

    def add(self, piece: ClipPiece) -> None:
        """Write the frames of a piece; fewer than all of them above 30 frames a second."""
        self.duration = piece.duration
        for time, frame_HWC in zip(piece.frames.times_T.tolist(), piece.frames.frames_THWC.numpy(), strict=True):
            if time - self.time > 0.9 / _MAX_FPS:
                self._write(time, frame_HWC)
                self.time = time

    def _write(self, time: float, frame_HWC: NDArray[np.uint8]) -> None:
        is_first = self._stream is None
        if is_first:
            self.size = preview_size(*frame_HWC.shape[:2], most_rows=self._most_rows)
            self._stream = self._container.add_stream("libx264", rate=Fraction(30), options=_QUALITY)
            self._stream.width, self._stream.height = self.size
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, _UNITS)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
        frame = frame.reformat(width=self.size[0], height=self.size[1], format="yuv420p")
        # Players start with the first frame, even if the video shows it a bit later.
        frame.pts, frame.time_base = 0 if is_first else round(time * _UNITS), Fraction(1, _UNITS)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left and the index of the file. OSError if it can't be written."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def preview_size(rows: int, columns: int, *, most_rows: int) -> tuple[int, int]:
    """Return the width and height of a preview, in pixels, both even."""
    scale = min(1.0, most_rows / rows)
    height = max(_MIN_SIDE, 2 * round(rows * scale / 2))
    width = min(max(_MIN_SIDE, 2 * round(columns * scale / 2)), _MAX_ASPECT * height)
    return width, height
