"""Resize 8-bit images to Pillow's levels, with which the released models were trained.

Pillow resizes columns first, then rows. Each pixel is a weighted mean over the filter's support, which is stretched by
the scale if the image shrinks (antialiasing). Weights are whole multiples of 2^-22, and levels are rounded after each
direction. There are two implementations:

- the same sums of whole numbers, which give Pillow's levels exactly on any device, and are computed only for the crop;
- torch's 8-bit bilinear kernel on CPUs, which is several times as fast. Its weights have 16 bits, so that it rounds
  some levels the other way, mostly ties. If both directions do so for one pixel, it is off by two levels. If that is
  likely (see `_errors_meet`), the kernel resizes the columns and the sums resize the rows: no level is off by two then.

On decoding and resizing a clip of 720p or 1080p, the kernel saves a fifth of the CPU time.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

NEAREST, BILINEAR, BICUBIC = 0, 2, 3  # Pillow's numbers, which configurations use

_WEIGHT_BITS = 22
_HALF = 1 << (_WEIGHT_BITS - 1)
_Array = NDArray[Any]
_PILLOW = int(PIL.__version__.split(".")[0])


def resize(
    images_NCHW: torch.Tensor, size: tuple[int, int], *, rows: slice, columns: slice, resample: int
) -> torch.Tensor:
    """Resize images and crop them.

    Args:
        images_NCHW: uint8.
        size: height and width of the resized image before cropping.
        rows: rows of the resized image to return.
        columns: columns of the resized image to return.
        resample: NEAREST, BILINEAR or BICUBIC.

    Returns:
        (N, C, rows, columns), uint8, on the same device.
    """
    height, width = images_NCHW.shape[-2:]
    if size == (height, width):
        return images_NCHW[..., rows, columns]
    if resample == NEAREST:
        y, x = _nearest(height, size[0])[rows], _nearest(width, size[1])[columns]
        return images_NCHW.index_select(2, y.to(images_NCHW.device)).index_select(3, x.to(images_NCHW.device))
    if resample != BILINEAR or images_NCHW.device.type != "cpu" or _rows_first((height, width), size):
        return _resize_exactly(images_NCHW, size, rows, columns, resample)
    # The kernel needs channels last; numpy copies without starting threads (see pixels.in_place).
    images_NHWC = np.ascontiguousarray(images_NCHW.permute(0, 2, 3, 1).numpy())
    images_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)
    if not _errors_meet((height, width), size):
        return F.interpolate(images_NCHW, size, mode="bilinear", antialias=True)[..., rows, columns]
    images_NCHW = F.interpolate(images_NCHW, (height, size[1]), mode="bilinear", antialias=True)[..., columns]
    return _weighted(images_NCHW, 2, *_taps(height, size[0], rows.start, rows.stop, resample))


def _errors_meet(source: tuple[int, int], size: tuple[int, int]) -> bool:
    """Return whether two passes of the kernel are likely to be off by two levels somewhere in a clip.

    That is the case if a level depends on few rows, all of which can be off, and if ties are common because the width's
    scale is a fraction of small numbers. Measured shares of such levels, on noise, for a short side of 224: 10^-5 at
    128×128 and 10^-6 at 176×144, which are left to the sums; 2·10^-9 at 340×256 and 3·10^-9 over random sizes, which
    are left to the kernel; none from 448 on.
    """
    height, width = source
    if height >= 2 * size[0]:
        return False
    return 7 * height < 8 * size[0] or max(width, size[1]) // math.gcd(width, size[1]) < 64


def _resize_exactly(
    images_NCHW: torch.Tensor, size: tuple[int, int], rows: slice, columns: slice, resample: int
) -> torch.Tensor:
    height, width = images_NCHW.shape[-2:]
    x, x_weights = _taps(width, size[1], columns.start, columns.stop, resample)
    y, y_weights = _taps(height, size[0], rows.start, rows.stop, resample)
    left, top = int(x.min()), int(y.min())
    images_NCHW = images_NCHW[..., top : int(y.max()) + 1, left : int(x.max()) + 1]
    passes = [(3, x - left, x_weights), (2, y - top, y_weights)]
    if _rows_first((height, width), size):
        passes.reverse()
    for dim, at, weights in passes:
        images_NCHW = _weighted(images_NCHW, dim, at, weights)
    return images_NCHW


def _rows_first(source: tuple[int, int], size: tuple[int, int]) -> bool:
    """Return whether the installed Pillow resizes rows before columns.

    Since version 13 (pull request 9549) it does if it removes more than twice as many rows as columns.
    """
    fewer_rows, fewer_columns = source[0] - size[0], source[1] - size[1]
    return _PILLOW >= 13 and fewer_rows > 0 and fewer_rows > 2 * fewer_columns


def _weighted(images_NCHW: torch.Tensor, dim: int, at: _Array, weights: _Array) -> torch.Tensor:
    """Return weighted means along rows (dim 2) or columns (dim 3): output i is the mean of `at[i]` by `weights[i]`."""
    images_NHWC = images_NCHW.permute(0, 2, 3, 1)  # a pixel's channels are adjacent
    axis = dim - 2
    if images_NHWC.device.type == "cpu":  # numpy starts no threads (see pixels.in_place)
        resized = [_weighted_array(image_HWC, axis, at, weights) for image_HWC in images_NHWC.numpy()]
        return torch.from_numpy(np.stack(resized) if len(resized) > 1 else resized[0][None]).permute(0, 3, 1, 2)
    return _weighted_tensor(images_NHWC, axis + 1, at, weights).permute(0, 3, 1, 2)


def _weighted_tensor(images_NHWC: torch.Tensor, dim: int, at: _Array, weights: _Array) -> torch.Tensor:
    device = images_NHWC.device
    total = torch.tensor(_HALF, dtype=torch.int32, device=device)
    for tap in range(at.shape[1]):
        pixels = images_NHWC.index_select(dim, torch.from_numpy(at[:, tap]).to(device))
        total = total + pixels * torch.from_numpy(weights[:, tap]).to(device).view(-1, *[1] * (3 - dim))
    return (total >> _WEIGHT_BITS).clamp(0, 255).to(torch.uint8)


def _weighted_array(image_HWC: _Array, axis: int, at: _Array, weights: _Array) -> _Array:
    image_HWC = image_HWC.astype(np.int32)
    total = np.empty((*image_HWC.shape[:axis], len(at), *image_HWC.shape[axis + 1 :]), np.int32)
    term = np.empty_like(total)
    for tap in range(at.shape[1]):
        out = term if tap else total
        np.take(image_HWC, at[:, tap], axis, out=out, mode="clip")
        out *= _spread(weights, tap, axis, image_HWC.shape[2])
        if tap:
            total += term
    total += _HALF
    total >>= _WEIGHT_BITS
    return total.clip(0, 255, out=total).astype(np.uint8)


def _spread(weights: _Array, tap: int, axis: int, channels: int) -> _Array:
    """Return a tap's weights for rows (H, 1, 1), or for columns (W, C), so that numpy's inner loop is long."""
    column = weights[:, tap, None]
    return column[:, None] if axis == 0 else np.repeat(column, channels, axis=1)


@functools.lru_cache(maxsize=64)
def _taps(size: int, target: int, start: int, stop: int, resample: int) -> tuple[_Array, _Array]:
    """Return the source pixels of each target pixel from `start` to `stop`, and their weights as whole numbers."""
    scale = size / target
    stretch = max(scale, 1.0)
    reach = (1.0 if resample == BILINEAR else 2.0) * stretch
    centre = (np.arange(start, stop) + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach + 0.5).astype(np.int64), size)
    at = first[:, None] + np.arange((last - first).max())
    distance = np.abs((at - centre[:, None] + 0.5) * (1 / stretch))
    weights = np.where(at < last[:, None], _triangle(distance) if resample == BILINEAR else _cubic(distance), 0.0)
    weights *= 1 / weights.sum(axis=1, keepdims=True)
    whole_weights = np.trunc(weights * (1 << _WEIGHT_BITS) + np.copysign(0.5, weights)).astype(np.int32)
    return np.minimum(at, size - 1), whole_weights


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(x < 1, 1 - x, 0.0)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Keys' cubic convolution with a = -1/2 (IEEE ASSP 1981)."""
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = -0.5 * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def _nearest(size: int, target: int) -> torch.Tensor:
    """Return the source index of each target pixel, by a running sum like Pillow's, whose rounding decides ties."""
    step = size / target
    positions = np.cumsum(np.concatenate([[step * 0.5], np.full(target - 1, step)]))
    return torch.from_numpy(positions.astype(np.int64)).clamp_(max=size - 1)
