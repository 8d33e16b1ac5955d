"""What was found, to be seen: a still of a moment, and a clip of it that plays anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openxclip.search.results import Hit
from openxclip.video import DecodeWorker, Frames
from openxclip.video.writing import write_mp4

_CLIP_FPS = 12.0
_CLIP_FRAMES = 240  # at most: a longer moment has fewer a second
_SMALLEST, _WIDEST = 16, 4  # pixels that an encoder takes; how many times as wide or high as it is meant to be
_BYTES_AT_ONCE = 256 << 20  # of decoded frames


def thumbnail(hit: Hit, *, width: int = 320, reader: DecodeWorker | None = None) -> bytes:
    """The frame in the middle of a moment, as JPEG.

    Args:
        hit: the moment.
        width: in pixels; the height is by the video's shape.
        reader: what reads the video; by default one of its own, for several moments one is faster.

    Raises:
        VideoError: the video can't be read, or is no longer there.
        ValueError: the width isn't above 0.
    """
    if width < 1:
        raise ValueError(f"width={width}: must be 1 or more.")
    if reader is None:
        with DecodeWorker() as reader:
            return thumbnail(hit, width=width, reader=reader)
    frame = _read(reader, hit, hit.start, hit.end, 1).frames_THWC[0].numpy()
    height = min(max(1, round(width * frame.shape[0] / frame.shape[1])), _WIDEST * width)  # an odd one is squeezed
    data = BytesIO()
    Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS).save(data, "JPEG", quality=80)
    return data.getvalue()


def playing_clip(hit: Hit, *, height: int = 240, reader: DecodeWorker) -> bytes:
    """A moment as a small H.264 mp4, without sound.

    Args:
        hit: the moment.
        height: in pixels, even; the width is by the video's shape.
        reader: what reads the video.

    Raises:
        VideoError: as `thumbnail`.
    """
    seconds = max(hit.end - hit.start, 0.1)
    fps = min(_CLIP_FPS, _CLIP_FRAMES / seconds)
    data = BytesIO()
    write_mp4(_frames(hit, fps=fps, height=height, reader=reader), data, fps=fps, quality=28, preset="veryfast")
    return data.getvalue()


def _frames(hit: Hit, *, fps: float, height: int, reader: DecodeWorker) -> Iterator[NDArray[np.uint8]]:
    total = max(1, math.floor((hit.end - hit.start) * fps))
    done, number = 0, min(total, math.ceil(fps))  # at first a second's, by which the size of a frame is known
    while done < total:
        frames = _read(reader, hit, hit.start + done / fps, min(hit.start + (done + number) / fps, hit.end), number)
        width = 2 * round(height * frames.frames_THWC.shape[2] / frames.frames_THWC.shape[1] / 2)
        width = min(max(_SMALLEST, width), _WIDEST * height)
        for frame in frames.frames_THWC.numpy():
            yield np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
        done += number
        number = min(total - done, max(1, _BYTES_AT_ONCE // frames.frames_THWC[0].numel()))


def _read(reader: DecodeWorker, hit: Hit, start: float, end: float, number: int) -> Frames:
    (frames,) = reader.read_clips(hit.path, num_frames=number, num_clips=1, start=start, end=end)
    return frames
