"""Pictures of more than 8 bits a sample, as Pillow opens them: which value is white, and their 8-bit levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openxclip.video.assumptions import Assumption

_BITS, _WHITE_IS_ZERO, _SAMPLE_FORMAT, _LARGEST_SAMPLE = 258, 262, 339, 341  # TIFF 6.0, sections 8 and 19
_UNSIGNED = 1
_USUAL = (1.0, 255.0, 65535.0)
_ROUNDING = 1e-3  # by which floating numbers may exceed 1 and still be of the range 0 to 1


@dataclass(frozen=True)
class Unstated:
    """What is known of pictures that don't say which value is white.

    Attributes:
        highest: the highest value in them.
        is_floating: their values are floating-point numbers.
    """

    highest: float
    is_floating: bool

    def __or__(self, other: Unstated | None) -> Unstated:
        if other is None:
            return self
        return Unstated(max(self.highest, other.highest), self.is_floating or other.is_floating)

    @property
    def white(self) -> float:
        """The value to take as white: 1 (of floating-point numbers), 255, 65535, or the highest if it is above."""
        usual = _USUAL if self.is_floating else _USUAL[1:]
        return next((white for white in usual if self.highest <= white * (1 + _ROUNDING)), self.highest)

    @property
    def note(self) -> Assumption:
        """The assumption in words."""
        kind = "floating-point" if self.is_floating else "32-bit"
        return Assumption(
            f"the {kind} pictures do not say which value is white: {self.white:g} was assumed, with 0 as black "
            f"(the highest value is {self.highest:g})"
        )


def is_wide(image: Image.Image) -> bool:
    """Whether Pillow's mode has more than 8 bits a sample: I, F, or one of I;16."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def unstated(image: Image.Image) -> Unstated | None:
    """What is known of a wide picture that doesn't say which value is white; None for all other pictures."""
    if not is_wide(image) or _stated_white(image) is not None:
        return None
    values = _values(image)
    finite = values[np.isfinite(values)]
    return Unstated(float(finite.max(initial=0)), image.mode == "F")


def grey_levels(image: Image.Image, white: float | None = None) -> NDArray[np.uint8]:
    """The levels 0 to 255 of a wide picture, (H, W): 0 is black, and what is outside the range is black or white.

    Args:
        image: for which `is_wide`.
        white: which value is white, where the picture doesn't say; default is what `Unstated` assumes.
    """
    known = _stated_white(image)
    if known is None:
        found = unstated(image)
        known = white if white is not None or found is None else found.white
    known = known or 1.0
    values = np.nan_to_num(_values(image).astype(np.float64), nan=0.0, posinf=known, neginf=0.0)
    scaled = values * (255.0 / known)
    levels: NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    return 255 - levels if _tag(image, _WHITE_IS_ZERO) == 0 else levels


def with_alpha(image: Image.Image, white: float | None = None) -> Image.Image:
    """A picture of any mode as RGBA, 8 bits a sample; `white` as for `grey_levels`."""
    if not is_wide(image):
        return image.convert("RGBA")
    grey = grey_levels(image, white)
    alpha = np.full_like(grey, 255)
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # of PNG: the one value that is transparent
        alpha[_values(image) == clear] = 0
    return Image.fromarray(np.dstack([grey, grey, grey, alpha]), "RGBA")


def _stated_white(image: Image.Image) -> float | None:
    """Which value of a wide picture is white, as its format says."""
    largest = _tag(image, _LARGEST_SAMPLE)
    if largest is not None and largest > 0:
        return float(largest)
    bits = _tag(image, _BITS)
    if image.mode.startswith("I;16"):
        return float(2 ** (bits or 16) - 1)
    if image.mode == "F":
        return 1.0 if image.format == "PPM" else None  # PFM: 1 is white
    if image.format in ("PNG", "PPM"):  # Pillow scales those of other depths to 16 bits
        return 65535.0
    if bits and (_tag(image, _SAMPLE_FORMAT) or _UNSIGNED) == _UNSIGNED:
        return float(2**bits - 1)
    return None


def _values(image: Image.Image) -> NDArray[Any]:
    """The samples of a wide picture, (H, W)."""
    values = np.asarray(image)
    is_unsigned = (_tag(image, _SAMPLE_FORMAT) or _UNSIGNED) == _UNSIGNED
    if image.mode == "I" and _tag(image, _BITS) == 32 and is_unsigned:
        return values.view(np.uint32)  # Pillow has no unsigned mode for them
    return values


def _tag(image: Image.Image, number: int) -> Any:
    """The first value of a TIFF tag; None if it isn't a TIFF, or doesn't have it."""
    tags = getattr(image, "tag_v2", None)
    value = None if tags is None else tags.get(number)
    return value[0] if isinstance(value, tuple) else value
