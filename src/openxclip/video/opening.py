"""From a source (a path, an address, bytes, an open file, a pipe) to its footage, by what is in it."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from openxclip.errors import VideoError
from openxclip.video.containers import ContainerFootage
from openxclip.video.demuxing import is_playlist
from openxclip.video.frames import Footage
from openxclip.video.images import ArrayFootage, FolderFootage, ImageFootage, is_image
from openxclip.video.limits import Limits
from openxclip.video.streams import NamedBytes, is_pipe, read_pipe

VideoSource = str | os.PathLike[str] | bytes | BinaryIO

#: Suffixes of the files that a search through folders takes for videos. (Reading goes by content, not by suffix.)
VIDEO_SUFFIXES = frozenset(
    (  # noqa: SIM905 (forty lines otherwise)
        ".3g2 .3gp .asf .avi .divx .dv .f4v .flv .gif .ivf .m1v .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpe "
        ".mpeg .mpg .mts .mxf .nut .obu .ogm .ogv .qt .rm .rmvb .ts .vob .webm .webp .wmv .wtv .y4m"
    ).split()
)


@dataclass(frozen=True)
class Opener:
    """From a source to its footage; the arguments are those of `VideoReader`, checked."""

    name: str
    fps: float
    num_threads: int
    limits: Limits
    allow_protocols: tuple[str, ...]

    def open(self, source: VideoSource) -> Footage:
        """The footage of this source.

        Raises:
            VideoError: it can't be read.
            TypeError: it is no source.
        """
        if isinstance(source, str | os.PathLike):
            scheme, _, rest = os.fspath(source).partition("://")
            if rest and scheme in self.allow_protocols:
                return self._container(os.fspath(source))
            return self._open_path(Path(source or self.name))
        data = io.BytesIO(source) if isinstance(source, bytes) else self._seekable(source)
        head = data.read(64)
        data.seek(0)
        return self._open_file(data, head)

    def _open_path(self, path: Path) -> Footage:
        try:
            if path.is_dir():
                return FolderFootage(path, name=self.name, fps=self.fps, limits=self.limits)
            if is_pipe(path):
                return self.open(read_pipe(path, name=self.name, limits=self.limits))
            if not stat.S_ISREG(path.stat().st_mode):
                raise VideoError(self.name, "it is neither a file nor a folder but a device: give a file, or a pipe")
            with path.open("rb") as file:
                head = file.read(64)
        except (OSError, ValueError) as error:
            raise VideoError(self.name, _why_not_read(self.name, error)) from None
        return self._open_file(path, head)

    def _open_file(self, data: Path | BinaryIO, head: bytes) -> Footage:
        if not head:
            raise VideoError(self.name, "it is empty: copy, download or record it again")
        if head.startswith(b"\x93NUMPY"):
            return ArrayFootage(data, name=self.name, fps=self.fps, limits=self.limits)
        is_jpegs = head.startswith(b"\xff\xd8\xff") and Path(self.name).suffix.lower() in (".mjpeg", ".mjpg")
        if is_image(head[:16]) and not is_jpegs:
            return ImageFootage(data, name=self.name, limits=self.limits)
        if isinstance(data, Path) and is_playlist(head) and self.allow_protocols and "file" not in self.allow_protocols:
            # by its path, FFmpeg could open it only with leave to open every other file that it names
            data = NamedBytes(data.read_bytes(), self.name)
        return self._container(data)

    def _container(self, data: Path | BinaryIO | str) -> Footage:
        return ContainerFootage(
            data,
            name=self.name,
            num_threads=self.num_threads,
            limits=self.limits,
            allow_protocols=self.allow_protocols,
        )

    def _seekable(self, source: BinaryIO) -> BinaryIO:
        """The file at its beginning; one that cannot go back (a pipe) is read into memory."""
        if not hasattr(source, "read"):
            raise TypeError(f"a video is a path, bytes or an open binary file, not {type(source).__name__}")
        if not (hasattr(source, "seekable") and source.seekable()):
            return read_pipe(source, name=self.name, limits=self.limits)
        source.seek(0)
        if not isinstance(source.read(0), bytes):
            raise TypeError('the file is open as text: open it in binary mode ("rb")')
        return source


def source_name(source: VideoSource) -> str:
    """What to call a source in a result or an error: its path, or what it is."""
    if isinstance(source, bytes):
        return f"video of {len(source)} bytes"
    if isinstance(source, str | os.PathLike):
        return os.fspath(source) or "(no path)"
    return str(getattr(source, "name", None) or "file object")


def check_protocols(names: Sequence[str]) -> tuple[str, ...]:
    """The names of FFmpeg's protocols, if that is what they are.

    Raises:
        ValueError: one of them can't be.
    """
    if isinstance(names, str) or not all(name.isascii() and name.isalnum() for name in names):
        raise ValueError(f'allow_protocols={names!r} must be a list of FFmpeg\'s names of protocols, such as ["https"]')
    return tuple(names)


def _why_not_read(name: str, error: OSError | ValueError) -> str:
    if "://" in name:
        scheme = name.partition("://")[0]
        return (
            f"it is an address, and none is opened unasked: download it first, or allow it with "
            f'allow_protocols=["{scheme}", …] or --allow-protocols {scheme},…'
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        with suppress(OSError, ValueError):
            return f"it is a link to {os.readlink(name)}, where there is nothing"  # noqa: PTH115
        return "there is no such file: check the path"
    if isinstance(error, PermissionError):
        return "reading it is not permitted: check who may read the file and its folder"
    return f"it cannot be read: {getattr(error, 'strerror', None) or error}"
