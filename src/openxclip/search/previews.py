"""Make a thumbnail and a short clip of a hit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openxclip.search.results import Hit
from openxclip.video import ClipPlan, DecodeWorker, Frames, ReadOptions
from openxclip.video.formats import ARRAY_SUFFIX
from openxclip.video.writing import write_mp4

_CLIP_FPS, _CLIP_HEIGHT = 12.0, 240  # pixels, an even number
_CLIP_S = 20.0  # the clip of a longer moment shows this much around its best window
_MAX_FRAMES = 240  # the clip of a longer window has a lower frame rate
_MIN_WIDTH, _MAX_ASPECT = 16, 4  # encoders need some pixels; wider or higher pictures are squeezed
_BATCH_BYTES = 256 << 20  # decoded frames in memory


def thumbnail(hit: Hit, *, width: int = 320, reader: DecodeWorker | None = None) -> bytes:
    """Return the frame in the middle of a moment's best window, as JPEG.

    Args:
        hit: the moment.
        width: width in pixels; the height follows from the video's aspect ratio.
        reader: reads the video; default is a new one. Using one reader for several moments is faster.

    Raises:
        VideoError: the video is missing or can't be read.
        ValueError: the width is below 1.
    """
    if width < 1:
        raise ValueError(f"width={width}: must be 1 or more.")
    if reader is None:
        with DecodeWorker() as reader:
            return thumbnail(hit, width=width, reader=reader)
    frame = _read(reader, hit, hit.best_start, hit.best_end, 1).frames_THWC[0].numpy()
    height = min(max(1, round(width * frame.shape[0] / frame.shape[1])), _MAX_ASPECT * width)
    data = BytesIO()
    Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS).save(data, "JPEG", quality=80)
    return data.getvalue()


def preview_clip(hit: Hit, *, reader: DecodeWorker) -> bytes:
    """Return the `preview_span` of a moment as a small H.264 mp4 without sound.

    Args:
        hit: the moment.
        reader: reads the video.

    Raises:
        VideoError: the video is missing or can't be read.
    """
    start, end = preview_span(hit)
    fps = min(_CLIP_FPS, _MAX_FRAMES / max(end - start, 0.1))
    data = BytesIO()
    frames = _frames(hit, start, end, fps=fps, reader=reader)
    write_mp4(frames, data, fps=fps, quality=28, preset="veryfast")
    return data.getvalue()


def preview_span(hit: Hit) -> tuple[float, float]:
    """Return the start and end of a moment's clip, in seconds.

    The clip shows a moment of up to 20 s as a whole, and of a longer moment 20 s around its best window.
    """
    if hit.end - hit.start <= _CLIP_S:
        return hit.start, hit.end
    length = max(_CLIP_S, hit.best_end - hit.best_start)
    start = max(hit.start, min((hit.best_start + hit.best_end - length) / 2, hit.end - length))
    return start, start + length


def _frames(hit: Hit, start: float, end: float, *, fps: float, reader: DecodeWorker) -> Iterator[NDArray[np.uint8]]:
    total = max(1, math.floor((end - start) * fps))
    done, number = 0, min(total, math.ceil(fps))  # one second, to learn the size of a frame
    while done < total:
        frames = _read(reader, hit, start + done / fps, min(start + (done + number) / fps, end), number)
        width = 2 * round(_CLIP_HEIGHT * frames.frames_THWC.shape[2] / frames.frames_THWC.shape[1] / 2)
        width = min(max(_MIN_WIDTH, width), _MAX_ASPECT * _CLIP_HEIGHT)
        for frame in frames.frames_THWC.numpy():
            yield np.asarray(Image.fromarray(frame).resize((width, _CLIP_HEIGHT), Image.Resampling.BILINEAR))
        done += number
        number = min(total - done, max(1, _BATCH_BYTES // frames.frames_THWC[0].numel()))


def _read(reader: DecodeWorker, hit: Hit, start: float, end: float, number: int) -> Frames:
    plan = ClipPlan(num_frames=number, start=start, end=end)
    (frames,) = reader.read_clips(hit.path, plan, read=ReadOptions(fps=_indexed_fps(reader, hit)))
    return frames


def _indexed_fps(reader: DecodeWorker, hit: Hit) -> float | None:
    """Return the frame rate at which a folder of images or an array was indexed; None for files with timestamps."""
    path = Path(hit.path)
    if not (path.is_dir() or path.suffix.lower() == ARRAY_SUFFIX) or hit.duration <= 0:
        return None
    frames = reader.inspect(hit.path).frames
    return frames / hit.duration if frames else None
