"""Footage that is not in a video file: still and animated images, folders of images, arrays."""

from __future__ import annotations

import io
import math
import re
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from openxclip.errors import VideoError
from openxclip.video.colour import SHOWN_ON_WHITE
from openxclip.video.failures import cannot_be_read, machine_failure
from openxclip.video.frames import Place, rgb_bytes, steady_times
from openxclip.video.limits import Deadline, Limits

IMAGE_SUFFIXES = frozenset(".avif .bmp .gif .jfif .jpeg .jpg .pgm .png .pnm .ppm .tif .tiff .webp".split())  # noqa: SIM905

# Those of the suffixes above, whatever a file is named: of Pillow's others, some start programs (EPS: Ghostscript).
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_UNTIMED_S = 0.1  # browsers show a frame of no duration for this long
_BACKGROUND = (255, 255, 255)


class ImageFootage:
    """An image file, animated (GIF, WebP, PNG) or not: a still image is a video of one frame. See `Footage`.

    Times are the sums of the frames' own durations; a duration of 0 counts as 0.1 s. What is transparent is shown on
    white. Still images are turned as their EXIF orientation says.
    """

    def __init__(self, source: Path | BinaryIO, *, name: str, limits: Limits) -> None:
        self._name = name
        self.frames_decoded = 0
        self.notes: tuple[str, ...] = ()
        self.deadline = Deadline(limits.seconds, name)
        try:
            self._image = Image.open(source, formats=_formats())
        except Exception as error:  # damage comes as anything: ValueError, struct.error, KeyError, ...
            if machine_failure(error):
                raise VideoError(name, cannot_be_read(error)) from None
            raise VideoError(name, f"it is an image that cannot be read: {_plain(error)}") from None
        self.codec = str(self._image.format).lower()
        self._animated = False
        try:
            self._examine(limits)
        except BaseException:
            self.close()
            raise

    def _examine(self, limits: Limits) -> None:
        limits.check_pixels(self._name, width=self._image.width, height=self._image.height)
        durations: list[float] = []
        while self._show(len(durations)):
            # (asking for `n_frames` first would go through a GIF of a million frames without looking at the clock)
            durations.append((self._image.info.get("duration") or 0) / 1000 or _UNTIMED_S)
            limits.check_frames(self._name, len(durations))
            self._animated = len(durations) > 1
        ends = np.cumsum(np.array(durations, dtype=np.float64))
        self.times: NDArray[np.float64] = np.concatenate([[0.0], ends[:-1]])
        self.duration = float(ends[-1])

    def read(self, indices: list[int], place: Place) -> None:
        """As `Footage.read`."""
        for i in indices:
            self._show(i)
            self.frames_decoded += 1
            frame_HWC, is_transparent = _to_rgb(self._image, turn=not self._animated)
            if is_transparent:
                self.notes = (SHOWN_ON_WHITE,)
            place(i, frame_HWC)

    def size(self) -> tuple[int, int]:
        """As `Footage.size`."""
        width, height = self._image.size
        turned = not self._animated and self._image.getexif().get(0x0112, 1) >= 5
        return (width, height) if turned else (height, width)

    def close(self) -> None:
        """As `Footage.close`."""
        self._image.close()

    def _show(self, i: int) -> bool:
        """Go to frame i; False if there is none."""
        self.deadline.check()
        try:
            self._image.seek(i)
        except EOFError:
            return False
        except Exception as error:  # see above
            raise self._damaged(i, error) from None
        try:
            self._image.load()
        except Exception as error:
            raise self._damaged(i, error) from None
        return True

    def _damaged(self, i: int, error: Exception) -> VideoError:
        if machine_failure(error):
            return VideoError(self._name, cannot_be_read(error))
        what = f"frame {i} of it" if i else "it"
        return VideoError(self._name, f"{what} is damaged or cut off: {_plain(error)}")


class FolderFootage:
    """The images of a folder in natural order (2 before 10), all of one size, at `fps`. See `Footage`."""

    codec = "images"

    def __init__(self, folder: Path, *, name: str, fps: float, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self.deadline = Deadline(limits.seconds, name)
        self._files = sorted(
            (
                f
                for f in folder.iterdir()
                if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".") and f.is_file()
            ),
            key=lambda f: natural_key(f.name),
        )
        if not self._files:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise VideoError(name, f"there are no videos in it, and no images to be the frames of one ({kinds})")
        limits.check_frames(name, len(self._files))
        self.frames_decoded = 0
        self.notes: tuple[str, ...] = ()
        self.times = steady_times(len(self._files), fps)
        self.duration = len(self._files) / fps

    def read(self, indices: list[int], place: Place) -> None:
        """As `Footage.read`."""
        for i in indices:
            self.deadline.check()
            image = self._image(i)
            image.read([0], lambda _, frame_HWC, i=i: place(i, frame_HWC))  # type: ignore[misc]
            image.close()
            self.notes = image.notes or self.notes
            self.frames_decoded += 1

    def size(self) -> tuple[int, int]:
        """As `Footage.size`."""
        image = self._image(0)
        try:
            return image.size()
        finally:
            image.close()

    def close(self) -> None:
        """Nothing is kept open."""

    def _image(self, i: int) -> ImageFootage:
        name = str(Path(self._name) / self._files[i].name)  # as the folder was named, which may be relative
        return ImageFootage(self._files[i], name=name, limits=self._limits)


class ArrayFootage:
    """A `.npy` array of shape (T, H, W, 3) or (T, 3, H, W), uint8 RGB, at `fps`. See `Footage`."""

    codec = "npy"
    notes: tuple[str, ...] = ()

    def __init__(self, source: Path | BinaryIO, *, name: str, fps: float, limits: Limits) -> None:
        self.deadline = Deadline(limits.seconds, name)
        try:
            with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
                shape, by_columns, kind = _array_header(file)
                if kind.hasobject:
                    raise ValueError("it holds Python objects, which could be programs")
                start = file.tell()
                missing = math.prod(shape) * kind.itemsize - (file.seek(0, io.SEEK_END) - start)
                file.seek(start)
        except Exception as error:  # a header is a Python expression, and damage to it as many errors as there are
            if machine_failure(error):
                raise VideoError(name, cannot_be_read(error)) from None
            why = "its header is damaged" if "malformed" in str(error) else _plain(error)
            raise VideoError(name, f"it is an array that cannot be read: {why}") from None
        if kind != np.uint8 or len(shape) != 4 or 3 not in (shape[1], shape[3]) or min(shape) < 1:
            raise VideoError(
                name,
                f"it is an array of shape {shape} and type {kind}: "
                "frames are uint8 of shape (T, H, W, 3) or (T, 3, H, W), with at least one frame",
            )
        if missing > 0:  # before room is made for what the header claims
            raise VideoError(name, f"it is cut off: the last {missing} bytes are missing. Copy or write it again")
        height, width = shape[1:3] if shape[3] == 3 else shape[2:]
        limits.check_frames(name, shape[0])
        limits.check_pixels(name, width=width, height=height)
        order: Literal["C", "F"] = "F" if by_columns else "C"
        if isinstance(source, Path):
            self._array: Any = np.memmap(source, np.uint8, "r", offset=start, shape=shape, order=order)
        else:
            limits.check_memory(name, count=shape[0], height=height, width=width)
            data = source.read(math.prod(shape))
            self._array = np.ndarray(shape, np.uint8, data, order=order)
        if shape[3] != 3:
            self._array = self._array.transpose(0, 2, 3, 1)
        self.frames_decoded = 0
        self.times = steady_times(shape[0], fps)
        self.duration = shape[0] / fps

    def read(self, indices: list[int], place: Place) -> None:
        """As `Footage.read`."""
        for i in indices:
            self.deadline.check()
            place(i, rgb_bytes(self._array[i]))
            self.frames_decoded += 1

    def size(self) -> tuple[int, int]:
        """As `Footage.size`."""
        return self._array.shape[1], self._array.shape[2]

    def close(self) -> None:
        """Let go of the file."""
        self._array = None


def _array_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type of a .npy file, read up to where its data begin."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


@cache
def _formats() -> tuple[str, ...]:
    """What this Pillow has of the formats."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def is_image(head: bytes) -> bool:
    """Whether a file that begins with `head` (16 bytes) is an image that Pillow reads."""
    return (
        head.startswith((b"GIF8", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or head[4:12] in (b"ftypavif", b"ftypavis")
        or (head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace())
    )


def natural_key(name: str) -> list[tuple[int, str]]:
    """A key that sorts names as people do: numbers in them by value, the rest without regard to case."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-2, name)]


def _to_rgb(image: Image.Image, *, turn: bool) -> tuple[NDArray[np.uint8], bool]:
    """The picture, and whether any of it is transparent."""
    shown: Image.Image = ImageOps.exif_transpose(image) if turn else image
    is_transparent = False
    if shown.has_transparency_data:
        with_alpha = shown.convert("RGBA")
        is_transparent = with_alpha.getchannel("A").getextrema()[0] != 255
        shown = Image.new("RGBA", with_alpha.size, (*_BACKGROUND, 255))
        shown.alpha_composite(with_alpha)
    return rgb_bytes(shown.convert("RGB")), is_transparent


def _plain(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
