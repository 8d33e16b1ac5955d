"""Turn a caller's videos (paths, bytes, open files, frames in memory) into sources of videos."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from openxclip.processing.frames import FrameLevels, is_array, is_frame, split_videos
from openxclip.video import VideoSource
from openxclip.video.memory import MemoryVideo
from openxclip.video.opening import is_one_source

Frame = Image.Image | np.ndarray[Any, Any] | torch.Tensor
OneVideo = VideoSource | Frame | Sequence[Frame]
#: One video or several: sources, or frames in memory in the forms of `openxclip.processing.frames`.
Videos = OneVideo | Iterable[OneVideo]


def in_memory(frames: Any, name: str) -> MemoryVideo:
    """Return the frames of one video as a source, which a `VideoPipeline` takes like a path.

    The frames are not copied, and must not change until they are read.

    Args:
        frames: one video in any form of `openxclip.processing.frames` except a file: a list of PIL images, arrays or
            tensors; or an array or tensor of 4 dimensions, (T, H, W, C) or (T, C, H, W). Numbers are levels 0 to 255,
            or floating from 0 to 1.
        name: name of the video in results and errors.

    Raises:
        TypeError: an item is not a frame, or its numbers have an invalid type.
        ValueError: there are no frames, frames differ in size, or a shape or a value is not valid for a frame.
    """
    try:
        return MemoryVideo(name, FrameLevels(frames))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def as_sources(videos: Any) -> list[VideoSource]:
    """Return the sources of one video or several.

    Args:
        videos: one source (a path, bytes, an open file, a `MemoryVideo`), frames in memory, or an iterable of these. An
            iterable of only frames is one video.

    Returns:
        The given sources. Videos of frames become a `MemoryVideo` each, named "frames 1", "frames 2", ….

    Raises:
        TypeError, ValueError: as for `in_memory`; or one list has both frames and videos.
    """
    if is_one_source(videos):
        return [videos]
    if isinstance(videos, np.ndarray) and videos.dtype.kind in "UO":  # an array of paths
        videos = videos.tolist()
    elif not is_array(videos) and not is_frame(videos):
        if not isinstance(videos, Iterable):
            raise TypeError(f"can't get videos from an object of type {type(videos).__name__}: give paths or frames.")
        videos = list(videos)
        if not videos:
            return []
    numbers = itertools.count(1)
    return [
        video if is_one_source(video) else in_memory(video, f"frames {next(numbers)}") for video in split_videos(videos)
    ]
