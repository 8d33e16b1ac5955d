"""Read the video of a timeline again: which options that takes, and small frames at given times."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from openxclip.timelines.results import TimelineData
from openxclip.video import ReadOptions, VideoReader, VideoSource, sample_times
from openxclip.video.assumptions import AssumptionWarning


def options_for(timeline: TimelineData, read: ReadOptions | None) -> ReadOptions:
    """Return options with which the video of a timeline can be read as far as the timeline goes."""
    read = read or ReadOptions()
    if timeline.error is not None and len(timeline.starts):
        return replace(read, allow_cut_off=True)
    return read


def read_thumbnails(
    video: VideoSource, times: Sequence[float], *, side: int, read: ReadOptions | None = None
) -> list[NDArray[np.uint8]]:
    """Read the frames that are shown at some times, each reduced to `side` pixels in width.

    One frame at a time is kept at its full size.

    Args:
        video: the video.
        times: times in seconds, 0 or later. For a time after the end, the last frame is returned.
        side: the width of the results in pixels; smaller frames stay as they are.
        read: how to open the video.

    Returns:
        A frame for each time, uint8 RGB of shape (H, W, 3).

    Raises:
        VideoError: the video can't be read.
    """
    from PIL import Image

    pictures = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)  # the timeline has said it
        with VideoReader(video, read=read) as reader:
            for index in sample_times(times=reader.times.tolist(), at=times):
                reader.restart_clock()
                frame_HWC = reader.get_arrays([index])[0][0]
                image = Image.fromarray(frame_HWC)
                image.thumbnail((side, 8 * side), Image.Resampling.LANCZOS)
                pictures.append(np.asarray(image))
    return pictures
