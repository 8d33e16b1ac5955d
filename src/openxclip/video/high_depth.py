"""Convert images of more than 8 bits per sample, as Pillow opens them, to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openxclip.video.assumptions import Assumption

_BITS, _WHITE_IS_ZERO, _SAMPLE_FORMAT, _LARGEST_SAMPLE = 258, 262, 339, 341  # TIFF 6.0, sections 8 and 19
_UNSIGNED = 1
_USUAL_WHITES = (1.0, 255.0, 65535.0)
_ROUNDING = 1e-3  # floating-point values may exceed 1 by this much and still count as 0 to 1


@dataclass(frozen=True)
class UnknownWhite:
    """What is known about images that don't say which value is white.

    That is their highest value, and whether values are floating-point numbers.
    """

    highest: float
    is_floating: bool

    def __or__(self, other: UnknownWhite | None) -> UnknownWhite:
        if other is None:
            return self
        return UnknownWhite(max(self.highest, other.highest), self.is_floating or other.is_floating)

    @property
    def white(self) -> float:
        """The value assumed to be white: 1 (floating-point only), 255, 65535, or else the highest value."""
        usual = _USUAL_WHITES if self.is_floating else _USUAL_WHITES[1:]
        return next((white for white in usual if self.highest <= white * (1 + _ROUNDING)), self.highest)

    @property
    def note(self) -> Assumption:
        """The assumption, in words."""
        kind = "floating-point" if self.is_floating else "32-bit"
        return Assumption(
            f"the {kind} pictures do not say which value is white: {self.white:g} was assumed, with 0 as black "
            f"(the highest value is {self.highest:g})"
        )


def is_high_depth(image: Image.Image) -> bool:
    """Return whether an image has more than 8 bits per sample: Pillow's mode is I, F, or one of I;16."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def unknown_white(image: Image.Image) -> UnknownWhite | None:
    """Return what is known about a high-depth image that doesn't state which value is white; None for other images."""
    if not is_high_depth(image) or _stated_white(image) is not None:
        return None
    values = _values(image)
    finite = values[np.isfinite(values)]
    return UnknownWhite(float(finite.max(initial=0)), image.mode == "F")


def to_8_bit_grey(image: Image.Image, white: float | None = None) -> NDArray[np.uint8]:
    """Return the levels 0 to 255 of a high-depth image, (H, W); values below black or above white are clipped.

    Args:
        image: an image for which `is_high_depth` is true.
        white: the value to take as white if the image doesn't say; by default, the one that `UnknownWhite` assumes.
    """
    stated = _stated_white(image)
    if stated is not None:
        white = stated
    elif white is None and (unknown := unknown_white(image)) is not None:
        white = unknown.white
    scale = white or 1.0
    values = np.nan_to_num(_values(image).astype(np.float64), nan=0.0, posinf=scale, neginf=0.0)
    levels = np.asarray(np.rint(np.clip(values * (255.0 / scale), 0, 255)), dtype=np.uint8)
    return 255 - levels if _tag(image, _WHITE_IS_ZERO) == 0 else levels


def to_rgba(image: Image.Image, white: float | None = None) -> Image.Image:
    """Convert an image of any mode to RGBA, 8 bits per sample; `white` is as for `to_8_bit_grey`."""
    if not is_high_depth(image):
        return image.convert("RGBA")
    grey = to_8_bit_grey(image, white)
    alpha = np.full_like(grey, 255)
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # PNG names one transparent value
        alpha[_values(image) == clear] = 0
    return Image.fromarray(np.dstack([grey, grey, grey, alpha]), "RGBA")


def _stated_white(image: Image.Image) -> float | None:
    """Return the value of a high-depth image that its format says is white."""
    largest = _tag(image, _LARGEST_SAMPLE)
    if largest is not None and largest > 0:
        return float(largest)
    bits = _tag(image, _BITS)
    if image.mode.startswith("I;16"):
        return float(2 ** (bits or 16) - 1)
    if image.mode == "F":
        return 1.0 if image.format == "PPM" else None  # in PFM, 1 is white
    if image.format in ("PNG", "PPM"):  # Pillow scales their other depths to 16 bits
        return 65535.0
    if bits and _is_unsigned(image):
        return float(2**bits - 1)
    return None


def _values(image: Image.Image) -> NDArray[Any]:
    """Return the samples of a high-depth image, (H, W)."""
    values = np.asarray(image)
    if image.mode == "I" and _tag(image, _BITS) == 32 and _is_unsigned(image):
        return values.view(np.uint32)  # Pillow has no unsigned 32-bit mode
    return values


def _is_unsigned(image: Image.Image) -> bool:
    return (_tag(image, _SAMPLE_FORMAT) or _UNSIGNED) == _UNSIGNED


def _tag(image: Image.Image, number: int) -> Any:
    """Return the first value of a TIFF tag; None if the image isn't a TIFF or lacks the tag."""
    tags = getattr(image, "tag_v2", None)
    value = None if tags is None else tags.get(number)
    return value[0] if isinstance(value, tuple) else value
