"""Convert frames (PIL images, arrays, tensors, files) to tensors of one form.

The form alone decides what is a frame, a video or several videos:

- a frame: a PIL image; an array or tensor of 2 dimensions (grey) or 3, (H, W, C) or (C, H, W);
- a video: a list of frames; an array or tensor of 4 dimensions, (T, H, W, C) or (T, C, H, W); a path, the bytes of a
  file, or an open file. A single frame is a video of one;
- several videos: a list of videos; an array or tensor of 5 dimensions.

So a list of lists is several videos, a list of 3-D arrays is one video, and a list of 4-D arrays or of paths is
several. The channels' axis is the one of size 3; if first and last axis have size 3, it is the first (as in
transformers). An axis of size 1 (grey) or 4 (RGBA, whose A is dropped) is taken only if none has size 3.
`channels_last` overrides this rule.

PIL images of 16 and 32 bits (modes I;16, I and F) become levels by the white value of their format: 65535 in PNG and
PGM, the largest value of the samples in TIFF. If the format has none (images from arrays, floating TIFF), white is the
first of 1 (mode F), 255 and 65535 that no value of the video exceeds, and a warning names it. Arrays and tensors of
floating numbers are not changed.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from openxclip.video.assumptions import AssumptionWarning
from openxclip.video.high_depth import UnknownWhite, is_high_depth, to_8_bit_grey, unknown_white

# The frames of one video in pieces (n, 3, H, W), uint8 or float; H and W may differ between pieces.
Video = list[torch.Tensor]

_ROUNDING = 1e-3  # floating numbers in the range 0 to 1 may exceed 1 by this


def as_videos(
    videos: Any, *, read_file: Callable[[Any], torch.Tensor], channels_last: bool | None = None
) -> list[Video]:
    """Convert videos in any of the forms above to tensors.

    Args:
        videos: one video or several.
        read_file: returns the frames (T, H, W, 3) of a path, of bytes, or of an open file.
        channels_last: whether the last axis of arrays is the channels'; None decides by their shape.

    Returns:
        The pieces (n, 3, H, W) of each video: uint8 with levels 0..255, or floating as given. They are copied only if
        that is necessary.

    Raises:
        TypeError: an item is neither a frame nor a video.
        ValueError: there are no frames, or a shape or value is invalid for a frame.
    """
    return [_as_video(video, read_file, channels_last) for video in split_videos(videos)]


def split_videos(videos: Any) -> Sequence[Any]:
    """Split videos in any of the forms above into single videos, without converting them.

    Raises:
        TypeError, ValueError: as for `as_videos`.
    """
    if is_file(videos) or is_frame(videos):
        return [videos]
    if is_array(videos):
        if videos.ndim == 4:
            return [videos]
        if videos.ndim == 5:
            return list(videos)
        raise ValueError(
            f"an array of shape {tuple(videos.shape)} is no video: one video has 4 dimensions, several have 5"
        )
    if not isinstance(videos, list | tuple):
        raise TypeError(
            f"can't get frames from {_describe(videos)}: give a path, a list of PIL images, arrays or "
            "tensors, or a 4-D or 5-D array or tensor"
        )
    if not videos:
        raise ValueError("videos is empty: there are no frames")
    are_frames = [is_frame(item) for item in videos]
    if all(are_frames):
        return [videos]
    if any(are_frames):
        frame, other = are_frames.index(True), are_frames.index(False)
        raise ValueError(
            f"item {frame} is a frame, but item {other} is not: give a list of frames (one video), or a list of "
            "videos, in which the frames of each video are a list or an array of their own"
        )
    return videos


def _as_video(video: Any, read_file: Callable[[Any], torch.Tensor], channels_last: bool | None) -> Video:
    if is_file(video):
        return [read_file(video).permute(0, 3, 1, 2)]
    frames = _frames_of(video)
    if is_array(frames):
        pieces = [_channels_first(_as_tensor(frames), channels_last)]
    else:
        white = _assumed_white(frames)
        pieces = [_frame(item, channels_last, white) for item in frames]
    empty = next((piece for piece in pieces if not piece.numel()), None)
    if empty is not None:
        raise ValueError(f"a frame of {empty.shape[-1]}×{empty.shape[-2]} pixels is empty")
    return _levels(pieces)


def _assumed_white(frames: Any) -> float | None:
    """Return the white value for PIL images of modes I and F that state none, with a warning; None without such images.

    It is the same for all frames of a video, so that the brightness doesn't change between frames.
    """
    unknown: UnknownWhite | None = None
    for frame in frames:
        of_frame = unknown_white(frame) if isinstance(frame, Image.Image) else None
        unknown = unknown if of_frame is None else of_frame | unknown
    if unknown is None:
        return None
    warnings.warn(
        f"{unknown.note}. Convert them to RGB, with the scale that is right, to choose another.",
        AssumptionWarning,
        stacklevel=2,
    )
    return unknown.white


def _frame(frame: Any, channels_last: bool | None, white: float | None = None) -> torch.Tensor:
    if isinstance(frame, Image.Image):
        return torch.from_numpy(_rgb(frame, white))[None].permute(0, 3, 1, 2)
    image = _as_tensor(frame)
    if image.ndim == 2:
        return image.expand(1, 3, *image.shape)
    return _channels_first(image[None], channels_last)


def _rgb(image: Image.Image, white: float | None) -> NDArray[np.uint8]:
    if is_high_depth(image):  # Pillow would cut off everything above level 255
        return np.repeat(to_8_bit_grey(image, white)[..., None], 3, axis=2)
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _channels_first(images: torch.Tensor, channels_last: bool | None) -> torch.Tensor:
    """Return images (n, H, W, C) or (n, C, H, W) as (n, 3, H, W)."""
    if _channel_axis(tuple(images.shape[1:]), channels_last) == 2:
        images = images.permute(0, 3, 1, 2)
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]


def _channel_axis(shape: tuple[int, ...], channels_last: bool | None) -> int:
    """Return the channels' axis of a frame (H, W, C) or (C, H, W): 0 or 2."""
    if channels_last is None:
        by_preference = [(axis, count) for count in (3, 1, 4) for axis in (0, 2)]
        axes = [axis for axis, count in by_preference if shape[axis] == count]
        if not axes:
            raise ValueError(f"frames of shape {shape} have no axis of 3 channels: they must be (H, W, 3) or (3, H, W)")
        return axes[0]
    axis = 2 if channels_last else 0
    if shape[axis] not in (1, 3, 4):
        raise ValueError(f"frames of {shape[axis]} channels: they must have 3 (RGB), 1 (grey) or 4 (RGBA)")
    return axis


def _as_tensor(array: NDArray[Any] | torch.Tensor) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        has_levels = array.dtype != torch.bool and not array.is_complex()
    else:
        has_levels = array.dtype.kind in "iuf"
    if not has_levels:
        raise TypeError(f"frames of dtype {array.dtype}: they must be uint8 (0 to 255) or floating (0 to 1)")
    if isinstance(array, torch.Tensor):
        return array.detach()
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch warns of read-only arrays and refuses negative strides
    return torch.from_numpy(array)


def _levels(pieces: Video) -> Video:
    """Convert whole numbers of any type to uint8."""
    wider = [piece for piece in pieces if piece.dtype != torch.uint8 and not piece.is_floating_point()]
    if not wider:
        return pieces
    low = min(int(piece.to(torch.int64).min()) for piece in wider)
    high = max(int(piece.to(torch.int64).max()) for piece in wider)
    _check_levels(low, high, are_wide=all(piece.dtype == torch.uint16 for piece in wider))
    return [piece if piece.is_floating_point() else _narrow(piece, is_wide=high > 255) for piece in pieces]


def _check_levels(low: int, high: int, *, are_wide: bool) -> None:
    if low < 0 or (high > 255 and not are_wide):
        raise ValueError(
            f"frames of whole numbers must be levels 0 to 255, but these are {low} to {high} (uint16 may go to 65535)"
        )


def _narrow(piece: torch.Tensor, *, is_wide: bool) -> torch.Tensor:
    """Convert whole numbers to uint8; if they are wide, 65535 becomes 255."""
    if piece.dtype == torch.uint8:
        return piece
    levels = piece.to(torch.int64)
    return (((levels + 128) // 257) if is_wide else levels).to(torch.uint8)


class FrameLevels(Sequence[NDArray[np.uint8]]):
    """The frames of one video as uint8 RGB (H, W, 3), each converted when it is accessed.

    Whole numbers are levels 0 to 255 (uint16: to 65535 if one is above 255). Floating numbers are 0 to 1 if none is
    above 1, and otherwise 0 to 255; they are rounded to whole levels.

    Args:
        video: one video in any of the forms above except a file.

    Raises:
        TypeError: the argument is not a video, or its numbers have another type.
        ValueError: there are no frames, frames differ in size, or a shape or value is invalid for a frame.
    """

    def __init__(self, video: Any) -> None:
        self._frames: Sequence[Any] = _frames_of(video)
        height, width = _size(self._frames[0])
        if not height or not width:
            raise ValueError(f"a frame of {width}×{height} pixels is empty")
        for number, (h, w) in enumerate(map(_size, self._frames)):
            if (h, w) != (height, width):
                raise ValueError(
                    f"its frames differ in size: frame {number} is {w}×{h} and frame 0 is {width}×{height}"
                )
        self._white = _assumed_white(self._frames)
        self._scale, self._are_wide = self._range()

    def _range(self) -> tuple[float, bool]:
        """Return the factor for floating numbers, and whether whole numbers go up to 65535."""
        low, high = math.inf, -math.inf
        types: set[torch.dtype] = set()
        for frame in self._frames:
            if isinstance(frame, Image.Image) or str(frame.dtype) in ("uint8", "torch.uint8"):
                types.add(torch.uint8)
                continue
            piece = _frame(frame, None)
            types.add(piece.dtype)
            numbers = piece.double() if piece.is_floating_point() else piece.to(torch.int64)
            lowest, highest = numbers.min().item(), numbers.max().item()
            if math.isnan(lowest):
                raise ValueError("a frame has numbers that are NaN")
            low, high = min(low, lowest), max(high, highest)
        if any(dtype.is_floating_point for dtype in types):
            if not all(dtype.is_floating_point for dtype in types):
                raise ValueError("the frames of one video are partly whole and partly floating numbers: use one kind")
            if not (low >= 0 and high <= 255):
                raise ValueError(
                    f"floating frames must be within 0 to 1, or 0 to 255, but these are {low:g} to {high:g}"
                )
            return (255.0 if high <= 1 + _ROUNDING else 1.0), False
        if types != {torch.uint8}:
            _check_levels(int(low), int(high), are_wide=types <= {torch.uint8, torch.uint16})
        return 1.0, high > 255

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: Any) -> Any:
        """Return a frame, or the frames of a slice as a list."""
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        piece = _frame(self._frames[number], None, self._white)
        if piece.is_floating_point():
            piece = (piece.double() * self._scale).round().clamp(0, 255).to(torch.uint8)
        return _narrow(piece, is_wide=self._are_wide)[0].cpu().numpy().transpose(1, 2, 0)


def _frames_of(video: Any) -> Any:
    """Return the frames of one video in memory, without converting them."""
    if is_frame(video):
        return [video]
    if not (isinstance(video, list | tuple) or (is_array(video) and video.ndim == 4)):
        raise TypeError(f"{_describe(video)} is no video: give a path, a list of frames, or a 4-D array or tensor")
    for number, item in enumerate(video if isinstance(video, list | tuple) else ()):
        if not is_frame(item):
            raise TypeError(
                f"item {number} of a video is no frame but {_describe(item)}: "
                "a frame is a PIL image or an array or tensor of 2 or 3 dimensions"
            )
    if not len(video):
        raise ValueError("a video without frames")
    return video


def _size(frame: Any) -> tuple[int, int]:
    """Return height and width of a frame."""
    if isinstance(frame, Image.Image):
        return frame.height, frame.width
    starts_with_channels = frame.ndim == 3 and _channel_axis(tuple(frame.shape), None) == 0
    height, width = frame.shape[1:] if starts_with_channels else frame.shape[:2]
    return int(height), int(width)


def is_file(item: Any) -> bool:
    """Return whether an item is a path, the bytes of a file, or an open file."""
    return isinstance(item, str | bytes | os.PathLike) or (hasattr(item, "read") and not isinstance(item, Image.Image))


def is_array(item: Any) -> TypeGuard[NDArray[Any] | torch.Tensor]:
    """Return whether an item is an array or a tensor."""
    return isinstance(item, np.ndarray | torch.Tensor)


def is_frame(item: Any) -> bool:
    """Return whether an item has the form of a frame."""
    return isinstance(item, Image.Image) or (is_array(item) and item.ndim in (2, 3))


def _describe(item: Any) -> str:
    shape = f" of shape {tuple(item.shape)}" if is_array(item) else ""
    name = type(item).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}{shape}"
