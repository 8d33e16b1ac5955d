"""Recognise the files in a folder by their names and first bytes, without decoding them."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal

from openxclip.video.apng import is_animated_png
from openxclip.video.arrays import is_array_of_frames
from openxclip.video.formats import ARRAY_SUFFIX, IMAGE_SUFFIXES, MAY_BE_ANIMATED, MAY_BE_TEXT, VIDEO_SUFFIXES
from openxclip.video.gif import is_animated_gif
from openxclip.video.signatures import GIF, PNG, brands, image_format, is_text

#: Why a search through a folder leaves out a file.
Reason = Literal[
    "not a video by its name", "a still picture", "an array, but not of frames", "text", "hidden", "a link to a folder"
]  # fmt: skip

#: Folders that systems and programs create beside a user's own.
_SYSTEM_FOLDERS = frozenset(
    {"__macosx", "@eadir", "@recycle", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
)
_SEQUENCE_BRANDS = frozenset({b"avis", b"msf1", b"hevc", b"hevx", b"heim", b"heis"})  # AVIF and HEIF
_HEAD_BYTES = 512


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden or the system's, by its name: `.name`, `__MACOSX`, `lost+found`, …"""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS


def why_not_a_video(path: Path) -> Reason | None:
    """Return why a search through a folder leaves out this file; None for a video.

    A file that can't be read counts as what its name says, so that reading it reports the error.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ARRAY_SUFFIX:
            return None if is_array_of_frames(path) else "an array, but not of frames"
        if suffix in MAY_BE_TEXT:
            with path.open("rb") as file:
                return "text" if is_text(file.read(_HEAD_BYTES)) else None
        if suffix in MAY_BE_ANIMATED:
            with path.open("rb") as file:
                animated = is_animated(file)
            if animated is None:  # the content isn't the image that the name says
                animated = suffix in VIDEO_SUFFIXES
            return None if animated else "a still picture"
    except (OSError, ValueError):
        return None
    if suffix in VIDEO_SUFFIXES:
        return None
    return "a still picture" if suffix in IMAGE_SUFFIXES else "not a video by its name"


def is_animated(file: BinaryIO) -> bool | None:
    """Return whether an image file (GIF, PNG, WebP, AVIF, HEIF) has several frames to show; None for any other file."""
    head = file.read(_HEAD_BYTES)
    if head.startswith(GIF):
        return is_animated_gif(file)
    if head.startswith(PNG):
        return is_animated_png(file, min_frames=2)
    if image_format(head) == "WebP":
        return head[12:16] == b"VP8X" and bool(head[20] & 0x02)
    if head[4:8] == b"ftyp":
        return bool(_SEQUENCE_BRANDS & brands(head))
    return None
