"""What a file of a folder is, told by its name and where that isn't enough by its first bytes; nothing is decoded."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import BinaryIO, Literal

from openxclip.video.apng import is_animated_png
from openxclip.video.arrays import is_array_of_frames
from openxclip.video.formats import ARRAY_SUFFIX, IMAGE_SUFFIXES, MAY_BE_TEXT, MAY_MOVE, VIDEO_SUFFIXES

#: Why a file is left out when a folder is searched.
Reason = Literal["not a video by its name", "a still picture", "an array, but not of frames", "text", "hidden"]

#: Folders that systems and programs put beside a user's own.
_NOT_THE_USERS = frozenset(
    {"__macosx", "@eadir", "@recycle", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
)
_MOVING_BRANDS = frozenset({b"avis", b"msf1", b"hevc", b"hevx", b"heim", b"heis"})  # of AVIF and HEIF: a sequence
_LOOKED_AT = 512


def is_hidden(name: str) -> bool:
    """Whether a file or folder isn't the user's own, by its name: `.name`, `__MACOSX`, `@eaDir`, `lost+found`, …"""
    return name.startswith(".") or name.casefold() in _NOT_THE_USERS


def why_no_video(path: Path) -> Reason | None:
    """Why a search through a folder leaves this file out; None for a video.

    A file that can't be read counts as what its name says, so that reading it gives the error.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ARRAY_SUFFIX:
            return None if is_array_of_frames(path) else "an array, but not of frames"
        if suffix in MAY_BE_TEXT:
            with path.open("rb") as file:
                return "text" if _is_text(file.read(_LOOKED_AT)) else None
        if suffix in MAY_MOVE:
            with path.open("rb") as file:
                moving = moves(file)
            if moving is None:  # it isn't the image that its name says
                moving = suffix in VIDEO_SUFFIXES
            return None if moving else "a still picture"
    except (OSError, ValueError):
        return None
    if suffix in VIDEO_SUFFIXES:
        return None
    return "a still picture" if suffix in IMAGE_SUFFIXES else "not a video by its name"


def moves(file: BinaryIO) -> bool | None:
    """Whether an image file (GIF, PNG, WebP, AVIF, HEIF) has several frames to show; None if it is something else."""
    head = file.read(_LOOKED_AT)
    if head.startswith(b"GIF8"):
        return _gif_moves(file)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return is_animated_png(file, least=2)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return head[12:16] == b"VP8X" and bool(head[20] & 0x02)
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), len(head))
        return bool(_MOVING_BRANDS.intersection([head[8:12], *(head[i : i + 4] for i in range(16, end, 4))]))
    return None


def _gif_moves(file: BinaryIO) -> bool | None:
    """Whether there is a second image. Source: GIF89a specification, sections 17 to 27."""
    file.seek(0)
    flags = file.read(13)[10:11]
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, 1)
    images = 0
    while kind := file.read(1):
        if kind == b",":
            images += 1
            if images == 2:
                return True
            flags = file.read(9)[8:]
            table = 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0
            file.seek(table + 1, 1)  # and the size of a code
        elif kind == b"!":
            file.seek(1, 1)  # the kind of extension
        elif kind == b";":
            return False
        else:
            return None
        while size := file.read(1)[:1]:
            if size == b"\0":
                break
            file.seek(size[0], 1)
    return None  # it ends too soon


def _is_text(data: bytes) -> bool:
    """Whether a file that begins so is text (an empty one isn't)."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)  # whose last character may be cut
    except UnicodeDecodeError:
        return False
    return bool(data) and all(byte >= 32 or byte in b"\t\n\f\r" for byte in data)
