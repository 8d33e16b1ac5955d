"""Write resized and cropped levels, and the model's pixel values, into allocated memory."""

from __future__ import annotations

import math
from typing import Any

import torch

from openxclip.processing.resampling import resize


def in_place(tensor: torch.Tensor) -> Any:
    """Return the tensor's memory as a numpy array on a CPU, else the tensor.

    torch uses all its threads even for such small operations, and waking them takes milliseconds on a busy machine.
    """
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def write_levels(piece: torch.Tensor, levels: Any, *, size: tuple[int, int], resample: int) -> None:
    """Resize and crop a piece of a video.

    Args:
        piece: (n, 3, H, W), uint8 or, if there is nothing to resize, floating.
        levels: output (n, 3, height, width), see `in_place`.
        size: height and width of the resized frame before cropping.
        resample: see `openxclip.processing.resampling`.
    """
    rows, rows_out = _middle(size[0], levels.shape[-2])
    columns, columns_out = _middle(size[1], levels.shape[-1])
    if piece.dtype == torch.uint8:
        piece = resize(piece, size, rows=rows, columns=columns, resample=resample)
    else:
        piece = piece[..., rows, columns]
    if piece.shape != levels.shape:
        levels[...] = 0
    # One channel at a time, and levels before values, so that numpy reads and writes whole rows
    source = in_place(piece)
    for channel in range(3):
        levels[:, channel, rows_out, columns_out] = source[:, channel]


def write_values(levels: Any, values: Any, scale_and_offset: list[Any] | None) -> None:
    """Convert levels to pixel values.

    Args:
        levels: (n, 3, H, W), see `in_place`.
        values: output of the same shape.
        scale_and_offset: (3, 1, 1) each; None copies the levels.
    """
    values[...] = levels
    if scale_and_offset is not None:
        scale_C11, offset_C11 = scale_and_offset
        values *= scale_C11
        values += offset_C11


def _middle(size: int, crop: int) -> tuple[slice, slice]:
    """Return the middle `crop` of `size` pixels, and its position in the output, which is larger if there are fewer."""
    if size >= crop:
        start = (size - crop) // 2
        return slice(start, start + crop), slice(0, crop)
    start = math.ceil((crop - size) / 2)
    return slice(0, size), slice(start, start + size)
