"""What was found, to be seen: a still of a moment, and a clip of it that plays anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openxclip.search.results import Hit
from openxclip.video import DecodeWorker, Frames
from openxclip.video.formats import ARRAY_SUFFIX
from openxclip.video.writing import write_mp4

_CLIP_FPS = 12.0
_CLIP_S = 20.0  # of a longer moment, this much round its best window is shown
_CLIP_FRAMES = 240  # at most: a longer window has fewer a second
_SMALLEST, _WIDEST = 16, 4  # pixels that an encoder takes; how many times as wide or high as it is meant to be
_BYTES_AT_ONCE = 256 << 20  # of decoded frames


def thumbnail(hit: Hit, *, width: int = 320, reader: DecodeWorker | None = None) -> bytes:
    """The frame in the middle of a moment's best window, as JPEG.

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
    frame = _read(reader, hit, hit.best_start, hit.best_end, 1).frames_THWC[0].numpy()
    height = min(max(1, round(width * frame.shape[0] / frame.shape[1])), _WIDEST * width)  # an odd one is squeezed
    data = BytesIO()
    Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS).save(data, "JPEG", quality=80)
    return data.getvalue()


def playing_clip(hit: Hit, *, height: int = 240, reader: DecodeWorker) -> bytes:
    """A moment as a small H.264 mp4, without sound: all of it, or what `shown` says of a long one.

    Args:
        hit: the moment.
        height: in pixels, even; the width is by the video's shape.
        reader: what reads the video.

    Raises:
        VideoError: as `thumbnail`.
    """
    start, end = shown(hit)
    fps = min(_CLIP_FPS, _CLIP_FRAMES / max(end - start, 0.1))
    data = BytesIO()
    frames = _frames(hit, start, end, fps=fps, height=height, reader=reader)
    write_mp4(frames, data, fps=fps, quality=28, preset="veryfast")
    return data.getvalue()


def shown(hit: Hit) -> tuple[float, float]:
    """From when to when a moment's clip plays, in seconds.

    A moment of up to 20 s is shown whole. Of a longer one, the best window is shown, with as much on both sides of it
    as makes 20 s.
    """
    if hit.end - hit.start <= _CLIP_S:
        return hit.start, hit.end
    length = max(_CLIP_S, hit.best_end - hit.best_start)
    start = max(hit.start, min((hit.best_start + hit.best_end - length) / 2, hit.end - length))
    return start, start + length


def _frames(
    hit: Hit, start: float, end: float, *, fps: float, height: int, reader: DecodeWorker
) -> Iterator[NDArray[np.uint8]]:
    total = max(1, math.floor((end - start) * fps))
    done, number = 0, min(total, math.ceil(fps))  # at first a second's, by which the size of a frame is known
    while done < total:
        frames = _read(reader, hit, start + done / fps, min(start + (done + number) / fps, end), number)
        width = 2 * round(height * frames.frames_THWC.shape[2] / frames.frames_THWC.shape[1] / 2)
        width = min(max(_SMALLEST, width), _WIDEST * height)
        for frame in frames.frames_THWC.numpy():
            yield np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
        done += number
        number = min(total - done, max(1, _BYTES_AT_ONCE // frames.frames_THWC[0].numel()))


def _read(reader: DecodeWorker, hit: Hit, start: float, end: float, number: int) -> Frames:
    fps = _rate_of_untimed(reader, hit)
    (frames,) = reader.read_clips(hit.path, num_frames=number, num_clips=1, start=start, end=end, fps=fps)
    return frames


def _rate_of_untimed(reader: DecodeWorker, hit: Hit) -> float | None:
    """At which rate a folder of images or an array was put into the index; None of what has times."""
    path = Path(hit.path)
    if not (path.is_dir() or path.suffix.lower() == ARRAY_SUFFIX) or hit.duration <= 0:
        return None
    frames = reader.inspect(hit.path).frames
    return frames / hit.duration if frames else None
