"""Footage that is not in a video file: still and moving images, and folders of images."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from openxclip.errors import VideoError
from openxclip.video.apng import AnimatedPng, is_animated_png
from openxclip.video.assumptions import ASSUMED_FPS, FPS_ASSUMED
from openxclip.video.colour import SHOWN_ON_WHITE
from openxclip.video.composing import ComposedImage, DamagedImageError
from openxclip.video.failures import cannot_be_read, machine_failure
from openxclip.video.formats import IMAGE_SUFFIXES
from openxclip.video.frames import Place, rgb_bytes, steady_times
from openxclip.video.gif import AnimatedGif
from openxclip.video.levels import Unstated, is_wide, unstated, with_alpha
from openxclip.video.limits import Deadline, Limits
from openxclip.video.looking import is_hidden
from openxclip.video.refusals import not_an_image

# Those of `IMAGE_SUFFIXES`, whatever a file is named: of Pillow's others, some start programs (EPS: Ghostscript).
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_UNTIMED_S = 0.1  # browsers show a frame of no duration for this long
_BACKGROUND = (255, 255, 255)
_ORIENTATION = 0x0112  # a tag of Exif


class ImageFootage:
    """An image file, moving (GIF, WebP, PNG, AVIF) or not: a still image is a video of one frame. See `Footage`.

    Times are the sums of the frames' own durations; a duration of 0 counts as 0.1 s. What is transparent is shown on
    white. Still images are turned as their EXIF orientation says.

    Attributes:
        unstated: of pictures that don't say which value is white, their highest value; else None.
        assumed: what `read` takes for white in such pictures, if not what follows from `unstated`.
    """

    tick = 0.01  # of GIF; those of WebP and PNG are finer

    def __init__(self, source: Path | BinaryIO, *, name: str, limits: Limits) -> None:
        self._name = name
        self.frames_decoded = 0
        self.notes: tuple[str, ...] = ()
        self.deadline = Deadline(limits.seconds, name)
        self.unstated: Unstated | None = None
        self.assumed: Unstated | None = None
        self._file: BinaryIO | None = None
        try:
            self._pictures = self._open(source, limits)
        except VideoError:
            self._close_file()
            raise
        except Exception as error:  # damage comes as anything: ValueError, struct.error, KeyError, ...
            self._close_file()
            if machine_failure(error):
                raise VideoError(name, cannot_be_read(error)) from None
            if isinstance(error, DamagedImageError):
                raise VideoError(name, _damaged("it", error)) from None
            raise VideoError(name, not_an_image(source, error)) from None
        self.codec = str(self._pictures.format).lower()
        self._moves = False
        try:
            self._examine(limits)
        except BaseException:
            self.close()
            raise

    def _open(self, source: Path | BinaryIO, limits: Limits) -> _Pictures | ComposedImage:
        file = source
        if isinstance(file, Path):
            file = self._file = file.open("rb")
        file.seek(0)
        if file.read(4) == b"GIF8":
            return AnimatedGif(file, name=self._name, limits=limits)
        if is_animated_png(file):
            return AnimatedPng(file, name=self._name, limits=limits)
        self._close_file()
        return _Pictures(source, self._name, limits)

    def _examine(self, limits: Limits) -> None:
        width, height = self._pictures.size
        limits.check_pixels(self._name, width=width, height=height)
        durations: list[float] = []
        while (picture := self._picture(len(durations))) is not None:
            # (asking for `n_frames` first would go through a GIF of a million frames without looking at the clock)
            durations.append((picture.info.get("duration") or 0) / 1000 or _UNTIMED_S)
            limits.check_frames(self._name, len(durations))
            self._moves = len(durations) > 1
            found = unstated(picture)
            self.unstated = self.unstated if found is None else found | self.unstated
        if self.unstated is not None:
            self.notes = (self.unstated.note,)
        ends = np.cumsum(np.array(durations, dtype=np.float64))
        self.times: NDArray[np.float64] = np.concatenate([[0.0], ends[:-1]])
        self.duration = float(ends[-1])

    def read(self, indices: list[int], place: Place) -> None:
        """As `Footage.read`."""
        taken = self.assumed or self.unstated
        white = None if taken is None else taken.white
        notes = {SHOWN_ON_WHITE} & set(self.notes) | (set() if taken is None else {taken.note})
        for i in indices:
            picture = self._picture(i)
            if picture is None:
                raise VideoError(self._name, f"it has no frame {i} any more: it has changed while it was read")
            self.frames_decoded += 1
            frame_HWC, is_transparent = _to_rgb(picture, turn=not self._moves, white=white)
            if is_transparent:
                notes.add(SHOWN_ON_WHITE)
            place(i, frame_HWC)
        self.notes = tuple(sorted(notes))

    def size(self) -> tuple[int, int]:
        """As `Footage.size`."""
        width, height = self._pictures.size
        turned = not self._moves and self._pictures.orientation >= 5
        return (width, height) if turned else (height, width)

    def close(self) -> None:
        """As `Footage.close`."""
        if isinstance(self._pictures, _Pictures):
            self._pictures.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _picture(self, i: int) -> Image.Image | None:
        """Frame i; None if there is none."""
        self.deadline.check()
        try:
            return self._pictures.picture(i)
        except VideoError:
            raise
        except Exception as error:  # see above
            if machine_failure(error):
                raise VideoError(self._name, cannot_be_read(error)) from None
            what = f"frame {i} of it" if i else "it"
            raise VideoError(self._name, _damaged(what, error)) from None


class _Pictures:
    """The pictures of a file that Pillow reads in any order."""

    def __init__(self, source: Path | BinaryIO, name: str, limits: Limits) -> None:
        self._name, self._limits = name, limits
        self._image = Image.open(source, formats=_formats())
        self.format = self._image.format
        self.size = self._image.size

    @property
    def orientation(self) -> int:
        """As its Exif data say; 1 is upright."""
        return int(self._image.getexif().get(_ORIENTATION, 1))

    def picture(self, i: int) -> Image.Image | None:
        """Frame i, loaded, until the next call; None if there are fewer frames."""
        if i and self.format == "MPO":  # a photo; others in its file are for one eye, or small copies
            return None
        try:
            self._image.seek(i)
        except EOFError:
            return None
        self._limits.check_pixels(self._name, width=self._image.width, height=self._image.height)
        self._image.load()
        return self._image

    def close(self) -> None:
        """Let go of the file."""
        self._image.close()


class FolderFootage:
    """The images of a folder in natural order (2 before 10), all of one size, at `fps`. See `Footage`."""

    codec = "images"
    tick = 0.0

    def __init__(self, folder: Path, *, name: str, fps: float | None, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self.deadline = Deadline(limits.seconds, name)
        self._files = sorted(
            (
                f
                for f in folder.iterdir()
                if f.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(f.name) and f.is_file()
            ),
            key=lambda f: natural_key(f.name),
        )
        if not self._files:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise VideoError(name, f"there are no videos in it, and no images to be the frames of one ({kinds})")
        limits.check_frames(name, len(self._files))
        self.frames_decoded = 0
        self.notes: tuple[str, ...] = (FPS_ASSUMED,) if fps is None and len(self._files) > 1 else ()
        self._unstated: Unstated | None = None
        fps = fps or ASSUMED_FPS
        self.times = steady_times(len(self._files), fps)
        self.duration = len(self._files) / fps

    def read(self, indices: list[int], place: Place) -> None:
        """As `Footage.read`."""
        notes = set(self.notes)
        for i in indices:
            self.deadline.check()
            image = self._image(i)
            try:
                if image.unstated is not None:
                    image.assumed = self._assumed()
                image.read([0], lambda _, frame_HWC, i=i: place(i, frame_HWC))  # type: ignore[misc]
            finally:
                image.close()
            notes.update(image.notes)
            self.frames_decoded += 1
        self.notes = tuple(sorted(notes))

    def size(self) -> tuple[int, int]:
        """As `Footage.size`."""
        image = self._image(0)
        try:
            if image.unstated is not None:
                self.notes = tuple(sorted({*self.notes, self._assumed().note}))
            return image.size()
        finally:
            image.close()

    def close(self) -> None:
        """Nothing is kept open."""

    def _assumed(self) -> Unstated:
        """What is known of all pictures together that don't say which value is white: the same for each of them."""
        for i in range(len(self._files) if self._unstated is None else 0):
            self.deadline.check()
            try:
                image = self._image(i)
            except VideoError:  # which is raised when this frame is read
                continue
            if image.unstated is not None:
                self._unstated = image.unstated | self._unstated
            image.close()
        assert self._unstated is not None
        return self._unstated

    def _image(self, i: int) -> ImageFootage:
        name = str(Path(self._name) / self._files[i].name)  # as the folder was named, which may be relative
        return ImageFootage(self._files[i], name=name, limits=self._limits)


def _damaged(what: str, error: Exception) -> str:
    how = error if isinstance(error, DamagedImageError) else "its pixels cannot be decoded"
    return f"{what} is damaged or cut off: {how}. Copy or convert it"


@cache
def _formats() -> tuple[str, ...]:
    """What this Pillow has of the formats."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def is_image(head: bytes) -> bool:
    """Whether a file that begins with `head` (64 bytes) is an image that Pillow reads."""
    return (
        head.startswith((b"GIF8", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and bool({head[i : i + 4] for i in range(8, head[3], 4)} & {b"avif", b"avis"}))
        or (head[:1] == b"P" and head[1:2] in b"123456f" and head[2:3].isspace())
    )


def natural_key(name: str) -> list[tuple[int, str]]:
    """A key that sorts names as people do: numbers in them by value, the rest without regard to case."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-2, name)]


def _to_rgb(image: Image.Image, *, turn: bool, white: float | None) -> tuple[NDArray[np.uint8], bool]:
    """The picture, and whether any of it is transparent."""
    shown: Image.Image = image
    if is_wide(image):
        shown = with_alpha(image, white)
        shown.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
    if turn:
        shown = ImageOps.exif_transpose(shown)
    is_transparent = False
    if shown.has_transparency_data:
        with_levels = shown.convert("RGBA")
        is_transparent = with_levels.getchannel("A").getextrema()[0] != 255
        shown = Image.new("RGBA", with_levels.size, (*_BACKGROUND, 255))
        shown.alpha_composite(with_levels)
    return rgb_bytes(shown.convert("RGB")), is_transparent
