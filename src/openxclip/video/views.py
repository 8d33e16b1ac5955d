"""Compute the sizes and boxes of spatial views of a frame.

The paper (Ni et al., ECCV 2022, section 4.1) tests each clip on three crops along the longer side of the frame.
"""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle of pixels: rows `top` to `top + height`, columns `left` to `left + width`."""

    top: int
    left: int
    height: int
    width: int


def rescaled(*, height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the height and width of a frame after resizing its shorter side, rounded to the nearest pixel.

    The paper's code does the same (mmcv's `rescale_size`). `VideoProcessor` rounds the longer side down instead, as
    transformers does.

    Args:
        height, width: size of the frame in pixels, at least 1.
        short_side: the new shorter side in pixels, at least 1.

    Raises:
        ValueError: an argument is below 1.
    """
    if min(height, width, short_side) < 1:
        raise ValueError(f"width={width}, height={height} and short_side={short_side} must be 1 or more")
    scale = short_side / min(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def crop_boxes(*, height: int, width: int, size: int, num_crops: int = 3) -> list[Box]:
    """Return square crops spread evenly along the longer side of a frame, centred on the shorter one.

    Three crops are left, centre and right (or top, centre and bottom); one crop is in the centre. The crops are equally
    far apart, so the last may end a pixel before the frame does, as in the paper's code (mmaction's `ThreeCrop`).

    Args:
        height, width: size of the (resized) frame in pixels, at least `size`.
        size: height and width of each crop in pixels, at least 1.
        num_crops: number of crops, at least 1.

    Returns:
        `num_crops` boxes of `size` × `size` pixels, each within the frame.

    Raises:
        ValueError: an argument is out of range, or the frame is smaller than the crop.
    """
    if size < 1 or num_crops < 1:
        raise ValueError(f"size={size} and num_crops={num_crops} must be 1 or more")
    if min(height, width) < size:
        raise ValueError(f"a frame of {width}×{height} has no crop of {size}×{size}: resize it first")
    spare = max(height, width) - size
    offsets = [spare // 2] if num_crops == 1 else [spare // (num_crops - 1) * i for i in range(num_crops)]
    if height > width:
        return [Box(top, (width - size) // 2, size, size) for top in offsets]
    return [Box((height - size) // 2, left, size, size) for left in offsets]
