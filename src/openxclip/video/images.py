"""Read frames from still and animated images, and from folders of images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from openxclip.errors import VideoError
from openxclip.video.apng import AnimatedPng, is_animated_png
from openxclip.video.colour import SHOWN_ON_WHITE
from openxclip.video.composing import ComposedImage
from openxclip.video.failures import explain_errors
from openxclip.video.formats import IMAGE_SUFFIXES
from openxclip.video.frames import Kind, Place, assumed_timeline, read_one_by_one, rgb_bytes
from openxclip.video.gif import AnimatedGif
from openxclip.video.high_depth import UnknownWhite, is_high_depth, to_rgba, unknown_white
from openxclip.video.limits import Deadline, Limits
from openxclip.video.refusals import why_frame_not_decoded, why_image_not_opened
from openxclip.video.signatures import GIF
from openxclip.video.sniffing import is_hidden

# Pillow's formats of files with `IMAGE_SUFFIXES`. Others are refused: some start programs (EPS: Ghostscript).
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_UNTIMED_S = 0.1  # browsers show a frame without duration for this long
_WHITE = (255, 255, 255, 255)
_ORIENTATION = 0x0112  # Exif tag; values from 5 on swap width and height


class ImageFootage:
    """An image file, animated (GIF, WebP, PNG, AVIF) or still, which is a video of one frame. See `Footage`.

    Times are the sums of the frames' own durations; a duration of 0 counts as 0.1 s. Transparency is shown on white.
    Still images are turned as their Exif orientation says.

    Attributes:
        unknown_white: what is known about the white level of an image that doesn't state it; None for other images.
        assumed_white: white level for `read` to use instead of the one that `unknown_white` assumes.
    """

    kind: Kind = "image"
    tick = 0.01  # GIF's tick; WebP's and PNG's are finer
    used: NDArray[np.int64] | None = None
    cut_off: str | None = None

    def __init__(self, source: Path | BinaryIO, *, name: str, limits: Limits) -> None:
        self._name = name
        self.frames_decoded = 0
        self.notes: tuple[str, ...] = ()
        self.deadline = Deadline(limits.seconds, name)
        self.unknown_white: UnknownWhite | None = None
        self.assumed_white: UnknownWhite | None = None
        self._own_file: BinaryIO | None = None
        try:
            with explain_errors(name, partial(why_image_not_opened, source)):
                if isinstance(source, Path):
                    source = self._own_file = source.open("rb")
                self._image = _open_image(source, name, limits)
            self.codec = str(self._image.format).lower()
            self._is_animated = False
            self._examine(limits)
        except BaseException:
            self.close()
            raise

    def _examine(self, limits: Limits) -> None:
        """Load all frames once to find their times and, if needed, their highest value."""
        width, height = self._image.size
        limits.check_pixels(self._name, width=width, height=height)
        durations: list[float] = []
        # don't use `n_frames`, which would read a GIF of a million frames without checking the deadline
        while (picture := self._picture(len(durations))) is not None:
            durations.append((picture.info.get("duration") or 0) / 1000 or _UNTIMED_S)
            limits.check_frames(self._name, len(durations))
            self._is_animated = len(durations) > 1
            unknown = unknown_white(picture)
            self.unknown_white = self.unknown_white if unknown is None else unknown | self.unknown_white
        if self.unknown_white is not None:
            self.notes = (self.unknown_white.note,)
        ends = np.cumsum(np.array(durations, dtype=np.float64))
        self.times: NDArray[np.float64] = np.concatenate([[0.0], ends[:-1]])
        self.duration = float(ends[-1])

    def read(self, indices: list[int], place: Place) -> None:
        """See `Footage.read`."""
        assumed = self.assumed_white or self.unknown_white
        white = None if assumed is None else assumed.white
        notes = {SHOWN_ON_WHITE} & set(self.notes)
        if assumed is not None:
            notes.add(assumed.note)
        for i in indices:
            picture = self._picture(i)
            if picture is None:
                raise VideoError(self._name, f"it no longer has frame {i}: it has changed while it was read")
            self.frames_decoded += 1
            frame_HWC, is_transparent = _to_rgb(picture, turn=not self._is_animated, white=white)
            if is_transparent:
                notes.add(SHOWN_ON_WHITE)
            place(i, frame_HWC)
        self.notes = tuple(sorted(notes))

    def iterate(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """See `Footage.iterate`."""
        return read_one_by_one(self, indices)

    def size(self) -> tuple[int, int]:
        """See `Footage.size`."""
        width, height = self._image.size
        picture = None if self._is_animated else self._picture(0)
        is_turned = picture is not None and picture.getexif().get(_ORIENTATION, 1) >= 5
        return (width, height) if is_turned else (height, width)

    def close(self) -> None:
        """Close the file, unless the caller opened it."""
        if self._own_file is not None:
            self._own_file.close()

    def _picture(self, i: int) -> Image.Image | None:
        """Return frame `i`; None if there is none."""
        self.deadline.check()
        with explain_errors(self._name, partial(why_frame_not_decoded, f"frame {i} of it" if i else "it")):
            return self._image.picture(i)


def _open_image(file: BinaryIO, name: str, limits: Limits) -> _PillowImage | ComposedImage:
    file.seek(0)
    if file.read(4) == GIF:
        return AnimatedGif(file, name=name, limits=limits)
    if is_animated_png(file):
        return AnimatedPng(file, name=name, limits=limits)
    file.seek(0)
    return _PillowImage(file, name, limits)


class _PillowImage:
    """An image whose frames Pillow reads correctly in any order."""

    def __init__(self, file: BinaryIO, name: str, limits: Limits) -> None:
        self._name, self._limits = name, limits
        self._image = Image.open(file, formats=_available_formats())
        self.format = self._image.format
        self.size = self._image.size

    def picture(self, i: int) -> Image.Image | None:
        """Return frame `i`, valid until the next call; None if there are fewer frames."""
        if i and self.format == "MPO":  # a photo, followed by a view for the other eye or small copies
            return None
        try:
            self._image.seek(i)
        except EOFError:
            return None
        self._limits.check_pixels(self._name, width=self._image.width, height=self._image.height)
        self._image.load()
        return self._image


class FolderFootage:
    """The images of a folder in natural order (2 before 10), all of one size, at `fps`. See `Footage`."""

    kind: Kind = "images"
    codec = "images"
    tick = 0.0
    used: NDArray[np.int64] | None = None
    cut_off: str | None = None

    def __init__(self, folder: Path, *, name: str, fps: float | None, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self.deadline = Deadline(limits.seconds, name)
        images = (path for path in folder.iterdir() if is_frame_name(path.name) and path.is_file())
        self._files = sorted(images, key=lambda path: natural_key(path.name))
        if not self._files:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise VideoError(name, f"it contains no videos, and no images that could be frames ({suffixes})")
        limits.check_frames(name, len(self._files))
        self.frames_decoded = 0
        self._unknown_white: UnknownWhite | None = None
        self.times, self.duration, self.notes = assumed_timeline(len(self._files), fps)

    def read(self, indices: list[int], place: Place) -> None:
        """See `Footage.read`."""
        notes = set(self.notes)
        for i in indices:
            self.deadline.check()
            with closing(self._open(i)) as image:
                if image.unknown_white is not None:
                    image.assumed_white = self._common_white()
                image.read([0], lambda _, frame_HWC, i=i: place(i, frame_HWC))  # type: ignore[misc]
            notes.update(image.notes)
            self.frames_decoded += 1
        self.notes = tuple(sorted(notes))

    def iterate(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """See `Footage.iterate`."""
        return read_one_by_one(self, indices)

    def size(self) -> tuple[int, int]:
        """See `Footage.size`."""
        with closing(self._open(0)) as image:
            if image.unknown_white is not None:
                self.notes = tuple(sorted({*self.notes, self._common_white().note}))
            return image.size()

    def close(self) -> None:
        """Do nothing: no file is kept open."""

    def _common_white(self) -> UnknownWhite:
        """Return what is known about the white level of the images that don't state it: the same for all of them."""
        if self._unknown_white is None:
            for i in range(len(self._files)):
                self.deadline.check()
                with suppress(VideoError), closing(self._open(i)) as image:  # reading this frame raises the error again
                    if image.unknown_white is not None:
                        self._unknown_white = image.unknown_white | self._unknown_white
        assert self._unknown_white is not None
        return self._unknown_white

    def _open(self, i: int) -> ImageFootage:
        name = str(Path(self._name) / self._files[i].name)  # relative if the caller named the folder so
        return ImageFootage(self._files[i], name=name, limits=self._limits)


@cache
def _available_formats() -> tuple[str, ...]:
    """Return the formats among `_FORMATS` that this Pillow supports."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def is_frame_name(name: str) -> bool:
    """Return whether a file of this name can be a frame of its folder's video."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not is_hidden(name)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts names as people do: numbers by value, letters ignoring case."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-2, name)]


def _to_rgb(image: Image.Image, *, turn: bool, white: float | None) -> tuple[NDArray[np.uint8], bool]:
    """Return the image as RGB (H, W, 3), and whether any of it is transparent."""
    shown: Image.Image = image
    if is_high_depth(image):
        shown = to_rgba(image, white)
        shown.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
    if turn:
        shown = ImageOps.exif_transpose(shown)
    is_transparent = False
    if shown.has_transparency_data:
        rgba = shown.convert("RGBA")
        is_transparent = rgba.getchannel("A").getextrema()[0] != 255
        shown = Image.new("RGBA", rgba.size, _WHITE)
        shown.alpha_composite(rgba)
    return rgb_bytes(shown.convert("RGB")), is_transparent
