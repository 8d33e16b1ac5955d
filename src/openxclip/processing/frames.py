"""From whatever holds frames (PIL images, arrays, tensors, files) to tensors of one form.

What is a frame, a video or several videos is decided by form alone:

- a frame: a PIL image; an array or tensor of 2 dimensions (grey) or 3, (H, W, C) or (C, H, W);
- a video: a list of frames; an array or tensor of 4 dimensions, (T, H, W, C) or (T, C, H, W); a path, the bytes of a
  file, or an open file. A single frame is a video of one;
- several videos: a list of videos; an array or tensor of 5 dimensions.

So a list of lists is several videos, a list of 3-D arrays is one video, and a list of 4-D arrays or of paths is
several. The axis of the channels is the one of 3; where first and last both have 3 it is the first (as in
transformers); an axis of 1 (grey) or 4 (RGBA, whose A is dropped) counts only where none has 3. `channels_last`
settles it where that is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from PIL import Image

# The frames of one video as pieces (n, 3, H, W), of uint8 or float, each of its own H and W.
Video = list[torch.Tensor]


def as_videos(
    videos: Any, *, read_file: Callable[[Any], torch.Tensor], channels_last: bool | None = None
) -> list[Video]:
    """Every video in `videos`, in any of the forms above, as tensors.

    Args:
        videos: the frames.
        read_file: gives the frames (T, H, W, 3) of a path, of bytes, or of an open file.
        channels_last: whether arrays end with their channels; None goes by their shape.

    Returns:
        For each video its pieces (n, 3, H, W): uint8 with levels 0..255, or whatever floating type came. Nothing is
        copied that need not be.

    Raises:
        TypeError: something is neither frame nor video.
        ValueError: there are no frames, or a shape or value can't be that of a frame.
    """
    return [_as_video(video, read_file, channels_last) for video in _split(videos)]


def _split(videos: Any) -> Sequence[Any]:
    if _is_file(videos) or _is_frame(videos):
        return [videos]
    if _is_array(videos):
        if videos.ndim == 4:
            return [videos]
        if videos.ndim == 5:
            return list(videos)
        raise ValueError(
            f"an array of {videos.ndim} dimensions, {tuple(videos.shape)}, is no video: 4 are one video, 5 are several"
        )
    if not isinstance(videos, list | tuple):
        raise TypeError(
            f"frames can't be had from a {type(videos).__name__}: give a path, a list of PIL images, arrays or "
            "tensors, or a 4-D or 5-D array or tensor"
        )
    if not videos:
        raise ValueError("videos is empty: there are no frames")
    frames = [number for number, item in enumerate(videos) if _is_frame(item)]
    if len(frames) == len(videos):
        return [videos]
    if frames:
        other = next(number for number in range(len(videos)) if number not in frames)
        raise ValueError(
            f"item {frames[0]} is a frame, but item {other} is not: give a list of frames (one video) or of videos"
        )
    return videos


def _as_video(video: Any, read_file: Callable[[Any], torch.Tensor], channels_last: bool | None) -> Video:
    if _is_file(video):
        return [read_file(video).permute(0, 3, 1, 2)]
    if _is_array(video) and video.ndim == 4:
        pieces = [_channels_first(_as_tensor(video), channels_last)]
    elif _is_frame(video):
        pieces = [_frame(video, channels_last)]
    elif isinstance(video, list | tuple):
        for number, item in enumerate(video):
            if not _is_frame(item):
                raise TypeError(
                    f"item {number} of a video is no frame but {_describe(item)}: "
                    "a frame is a PIL image or an array or tensor of 2 or 3 dimensions"
                )
        pieces = [_frame(item, channels_last) for item in video]
    else:
        raise TypeError(f"{_describe(video)} is no video: give a path, a list of frames, or a 4-D array or tensor")
    if not sum(map(len, pieces)):
        raise ValueError("a video without frames")
    empty = next((piece for piece in pieces if not piece.numel()), None)
    if empty is not None:
        raise ValueError(f"a frame of {empty.shape[-1]}×{empty.shape[-2]} pixels is empty")
    return _levels(pieces)


def _frame(frame: Any, channels_last: bool | None) -> torch.Tensor:
    if isinstance(frame, Image.Image):
        return torch.from_numpy(_rgb(frame))[None].permute(0, 3, 1, 2)
    image = _as_tensor(frame)
    if image.ndim == 2:
        return image.expand(1, 3, *image.shape)
    return _channels_first(image[None], channels_last)


def _rgb(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    mode = image.mode
    if mode.startswith("I;16"):
        # Pillow would cut off everything above level 255.
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image if mode == "RGB" else image.convert("RGB"))


def _channels_first(images: torch.Tensor, channels_last: bool | None) -> torch.Tensor:
    """(n, H, W, C) or (n, C, H, W) as (n, 3, H, W)."""
    if channels_last is None:
        by_preference = [(axis, count) for count in (3, 1, 4) for axis in (1, 3)]
        axes = [axis for axis, count in by_preference if images.shape[axis] == count]
        if not axes:
            raise ValueError(
                f"frames of shape {tuple(images.shape[1:])} have no axis of 3 channels: "
                "they must be (H, W, 3) or (3, H, W)"
            )
        channels_last = axes[0] == 3
    if channels_last:
        images = images.permute(0, 3, 1, 2)
    channels = images.shape[1]
    if channels == 1:
        return images.expand(-1, 3, -1, -1)
    if channels not in (3, 4):
        raise ValueError(f"frames of {channels} channels: they must have 3 (RGB), 1 (grey) or 4 (RGBA)")
    return images[:, :3]


def _as_tensor(array: np.ndarray[Any, Any] | torch.Tensor) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array.detach()
    if array.dtype.kind not in "iuf":
        raise TypeError(f"frames of dtype {array.dtype}: they must be uint8 (0 to 255) or floating (0 to 1)")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch would warn of the one and refuse the other
    return torch.from_numpy(array)


def _levels(pieces: Video) -> Video:
    """Whole numbers of any type as uint8."""
    others = [piece for piece in pieces if piece.dtype != torch.uint8 and not piece.is_floating_point()]
    if not others:
        return pieces
    for piece in others:
        if piece.dtype == torch.bool or piece.is_complex():
            raise TypeError(f"frames of dtype {piece.dtype}: they must be uint8 (0 to 255) or floating (0 to 1)")
    low = min(int(piece.to(torch.int64).min()) for piece in others)
    high = max(int(piece.to(torch.int64).max()) for piece in others)
    wide = all(piece.dtype == torch.uint16 for piece in others)
    if low < 0 or (high > 255 and not wide):
        raise ValueError(
            f"frames of whole numbers must be levels 0 to 255, but these are {low} to {high} (uint16 may go to 65535)"
        )

    def narrow(piece: torch.Tensor) -> torch.Tensor:
        if piece.dtype == torch.uint8 or piece.is_floating_point():
            return piece
        levels = piece.to(torch.int64)
        return (((levels + 128) // 257) if high > 255 else levels).to(torch.uint8)

    return [narrow(piece) for piece in pieces]


def _is_file(item: Any) -> bool:
    return isinstance(item, str | bytes | os.PathLike) or (hasattr(item, "read") and not isinstance(item, Image.Image))


def _is_array(item: Any) -> TypeGuard[np.ndarray[Any, Any] | torch.Tensor]:
    return isinstance(item, np.ndarray | torch.Tensor)


def _is_frame(item: Any) -> bool:
    return isinstance(item, Image.Image) or (_is_array(item) and item.ndim in (2, 3))


def _describe(item: Any) -> str:
    shape = f" of shape {tuple(item.shape)}" if _is_array(item) else ""
    return f"a {type(item).__name__}{shape}"
