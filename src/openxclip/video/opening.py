"""Open a source (a path, an address, bytes, an open file or a pipe) as the kind of footage that its content is."""

from __future__ import annotations

import io
import mmap
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from openxclip.errors import VideoError
from openxclip.video.arrays import ArrayFootage, open_array
from openxclip.video.containers import ContainerFootage
from openxclip.video.failures import WatchedFile, cannot_be_read
from openxclip.video.frames import Footage
from openxclip.video.images import FolderFootage, ImageFootage
from openxclip.video.jpegs import is_motion_jpeg
from openxclip.video.limits import Deadline, Limits
from openxclip.video.memory import MemoryVideo
from openxclip.video.options import ReadOptions
from openxclip.video.signatures import brands, image_format, is_playlist
from openxclip.video.streams import NamedBytes, is_pipe, read_pipe
from openxclip.video.tiles import TiledFootage, read_grid
from openxclip.video.tracks import is_heif

VideoSource = str | os.PathLike[str] | bytes | bytearray | memoryview | mmap.mmap | BinaryIO | MemoryVideo

# A source that can be opened more than once: an address, a path, bytes, the caller's file, or frames
ReopenableSource = str | Path | io.BytesIO | WatchedFile | MemoryVideo

_MAX_PATH = 4000  # bytes; systems allow 4096 or fewer


@dataclass(frozen=True)
class Opener:
    """Opens the footage of a source, which messages call `name`."""

    name: str
    read: ReadOptions

    def make_reopenable(self, source: VideoSource) -> ReopenableSource:
        """Return the source in a form that can be opened again, even after the current folder has changed.

        Raises:
            VideoError: the source can't be read.
            TypeError: `source` is of another type.
        """
        try:
            if isinstance(source, str | os.PathLike):
                return self._resolve_path(os.fspath(source))
            if is_buffer(source):
                return io.BytesIO(buffer_bytes(source, name=self.name, limits=self.read.limits))
            if isinstance(source, MemoryVideo):
                return source
            return self._rewind_file(source)  # type: ignore[arg-type]
        except (VideoError, TypeError):
            raise
        except Exception as error:  # a file object may raise anything
            raise VideoError(self.name, cannot_be_read(error)) from error

    def _resolve_path(self, text: str) -> ReopenableSource:
        scheme, _, rest = text.partition("://")
        if rest and scheme in self.read.allow_protocols:
            return text
        path = Path(absolute_path(text)) if text else Path(self.name)
        with suppress(OSError, ValueError):  # `open` reports what is wrong with it
            if is_pipe(path):
                return read_pipe(path, name=self.name, limits=self.read.limits)
        return path

    def open(self, source: ReopenableSource) -> Footage:
        """Open the footage of a source.

        Raises:
            VideoError: the source can't be read.
        """
        footage = self._open(source)
        if self.read.track and not isinstance(footage, ContainerFootage):
            footage.close()
            raise VideoError(self.name, f"it is not a file with tracks: there is no track {self.read.track}")
        return footage

    def _open(self, source: ReopenableSource) -> Footage:
        if isinstance(source, str):
            return ContainerFootage(source, name=self.name, options=self.read)
        if isinstance(source, Path):
            return self._open_path(source)
        if isinstance(source, MemoryVideo):
            deadline = Deadline(self.read.limits.seconds, self.name)
            return ArrayFootage(source.frames, codec="frames in memory", fps=self.read.fps, deadline=deadline)
        source.seek(0)
        head = source.read(64)
        source.seek(0)
        return self._open_file(source, head)  # type: ignore[arg-type]  # a WatchedFile has the methods that are used

    def _open_path(self, path: Path) -> Footage:
        try:
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                return FolderFootage(path, name=self.name, fps=self.read.fps, limits=self.read.limits)
            if not stat.S_ISREG(mode):
                raise VideoError(self.name, "it is neither a file nor a folder but a device: give a file, or a pipe")
            with path.open("rb") as file:
                head = file.read(64)
        except (OSError, ValueError) as error:
            raise VideoError(self.name, _why_not_opened(self.name, error)) from None
        return self._open_file(path, head)

    def _open_file(self, data: Path | BinaryIO, head: bytes) -> Footage:
        if not head:
            raise VideoError(self.name, "it is empty: copy, download or record it again")
        if head.startswith(b"\x93NUMPY"):
            return open_array(data, name=self.name, fps=self.read.fps, limits=self.read.limits)
        image = image_format(head)
        if image is not None and not (image == "JPEG" and is_motion_jpeg(data)):
            try:
                return ImageFootage(data, name=self.name, limits=self.read.limits)
            except VideoError:
                if image != "AVIF":  # FFmpeg reads some AVIF images that this Pillow doesn't
                    raise
        grid = read_grid(data) if is_heif(b"".join(brands(head))) else None
        if grid is not None:
            return TiledFootage(data, grid, name=self.name, limits=self.read.limits)
        protocols = self.read.allow_protocols
        if isinstance(data, Path) and is_playlist(head) and protocols and "file" not in protocols:
            # to open it by its path, FFmpeg would need permission to open every other file that it names
            data = NamedBytes(data.read_bytes(), self.name)
        return ContainerFootage(data, name=self.name, options=self.read)

    def _rewind_file(self, source: BinaryIO) -> ReopenableSource:
        """Go to the beginning of a file; read a file that can't seek (a pipe) into memory."""
        if not hasattr(source, "read"):
            raise TypeError(f"a video is a path, bytes or an open binary file, not {type(source).__name__}")
        if not (hasattr(source, "seekable") and source.seekable()):
            return read_pipe(source, name=self.name, limits=self.read.limits)
        source.seek(0)
        if not isinstance(source.read(0), bytes):
            raise TypeError('the file is open as text: open it in binary mode ("rb")')
        return source if type(source) in (io.BytesIO, NamedBytes) else WatchedFile(source)  # type: ignore[return-value]


def is_buffer(source: object) -> bool:
    """Return whether a source is the content of a video: bytes or a buffer."""
    return isinstance(source, bytes | bytearray | memoryview | mmap.mmap)


def buffer_bytes(source: Any, *, name: str, limits: Limits) -> bytes:
    """Return the bytes of a buffer; a buffer other than `bytes` is copied, because it may be changed or closed.

    Raises:
        VideoError: the buffer exceeds the limit of memory, or has been closed.
    """
    if isinstance(source, bytes):
        return source
    try:
        limits.check_content_size(name, memoryview(source).nbytes)
        return bytes(source)
    except (ValueError, MemoryError) as error:
        raise VideoError(name, cannot_be_read(error)) from error


def is_one_source(source: object) -> bool:
    """Return whether an argument is one source instead of a list of them."""
    return isinstance(source, str | os.PathLike | MemoryVideo) or is_buffer(source) or hasattr(source, "read")


def expand_home(path: str) -> str:
    """Return a path with `~` replaced by the home folder, unless a file has that very name."""
    try:
        return os.path.expanduser(path) if path.startswith("~") and not os.path.lexists(path) else path  # noqa: PTH111
    except ValueError:  # an impossible user name
        return path


def absolute_path(path: str) -> str:
    """Return the absolute path; a path that would be too long, or whose folder is unknown, is returned as it is."""
    path = expand_home(path)
    try:
        absolute = os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118 (Path would change the name)
        return absolute if len(os.fsencode(absolute)) < _MAX_PATH else path
    except (OSError, UnicodeError):  # the current folder has been removed, or the name is impossible
        return path


def source_name(source: VideoSource) -> str:
    """Return the name of a source in results and errors: its path, or a description."""
    if is_buffer(source):
        with suppress(ValueError):  # a map that has been closed, or a view that has been released
            return f"video of {memoryview(source).nbytes} bytes"  # type: ignore[arg-type]
        return "released memoryview" if isinstance(source, memoryview) else "closed mmap"
    if isinstance(source, str | os.PathLike):
        return os.fspath(source) or "(no path)"
    return str(getattr(source, "name", None) or "file object")


def _why_not_opened(name: str, error: OSError | ValueError) -> str:
    if "://" in name:
        scheme = name.partition("://")[0]
        return (
            f"it is an address, which isn't opened without permission: download it first, or allow it with "
            f'allow_protocols=["{scheme}", …] or --allow-protocols {scheme},…'
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        with suppress(OSError, ValueError):
            return f"it is a link to {os.readlink(name)}, where there is nothing: check the link"  # noqa: PTH115
        return "there is no such file: check the path"
    if isinstance(error, PermissionError):
        return "reading it is not permitted: check who may read the file and its folder"
    return cannot_be_read(error)
