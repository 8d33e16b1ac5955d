"""Why a read failed: a failure of the machine or of the caller's file object is no damage of the video."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, BinaryIO

import av

from openxclip.errors import VideoError

NO_MEMORY = "it takes more memory than there is"
_CHUNK = 1 << 20

# Error numbers that FFmpeg also uses for data that it cannot decode, parse or seek in
_OF_DATA = frozenset(
    {errno.EINVAL, errno.EAGAIN, errno.EDOM, errno.ERANGE, errno.ENOSYS, errno.EILSEQ, errno.ESPIPE, errno.EOPNOTSUPP}
)
_OF_FFMPEG = frozenset({errno.EIO, errno.EPERM})  # some demuxers give these for the end of damaged data, or as -1
_HIGHEST_ERRNO = 4095  # FFmpeg's own errors are numbered far above those of the system


class WatchedFile:
    """A caller's file object that remembers what its methods raised.

    Libraries swallow such an exception or replace it, and then say that the data are damaged.

    Attributes:
        name: the file's own, if it has one.
        failure: the first exception since `forget`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.name = str(getattr(file, "name", None) or "file object")
        self.failure: Exception | None = None

    def forget(self) -> None:
        """Forget the failure, before another try."""
        self.failure = None

    def read(self, size: int = -1) -> bytes:
        """As the file's own."""
        try:
            return self._file.read(size)
        except Exception as error:
            self.failure = self.failure or error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        """As the file's own."""
        try:
            return self._file.seek(offset, whence)
        except Exception as error:
            # damaged data name places that no file has: a seek to one of them isn't a failure of the file
            if machine_failure(error) or getattr(self._file, "closed", False):
                self.failure = self.failure or error
            raise

    def tell(self) -> int:
        """As the file's own."""
        return self._file.tell()

    def seekable(self) -> bool:
        """It is: another file is read into memory first."""
        return True

    def readable(self) -> bool:
        """It is."""
        return True


def machine_failure(error: BaseException) -> str | None:
    """What failed, in the system's words, if it was the machine; None if it may be the data."""
    if isinstance(error, MemoryError):
        return NO_MEMORY
    if isinstance(error, av.error.FFmpegError) and error.errno in _OF_FFMPEG:
        return None
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    if number is None or number in _OF_DATA or number > _HIGHEST_ERRNO:
        return None
    return plain(error)


def ffmpeg_failure(error: BaseException, source: Any) -> str | None:
    """As `machine_failure`, of FFmpeg's errors, also where they may be of the system or of the data.

    Args:
        error: what PyAV raised.
        source: what FFmpeg was reading. A file by its path is read again to tell whether the machine can read it.
    """
    if getattr(error, "errno", None) in _OF_FFMPEG and isinstance(source, Path):
        return unreadable(source)
    return machine_failure(error)


def unreadable(path: Path) -> str | None:
    """Why a file cannot be read to its end, in the system's words; None if it can."""
    try:
        with path.open("rb") as file:
            while file.read(_CHUNK):
                pass
    except OSError as error:
        return plain(error)
    return None


def cannot_be_read(error: BaseException) -> str:
    """The reason of a `VideoError` for a source that failed with this."""
    return NO_MEMORY if isinstance(error, MemoryError) else f"it cannot be read: {plain(error)}"


def plain(error: BaseException) -> str:
    """What an exception says, on one line, without the number and the file name of an `OSError`."""
    text = getattr(error, "strerror", None) if isinstance(error, OSError) else None
    text = " ".join(str(text or error).split())
    if isinstance(error, OSError | ValueError):
        return text or type(error).__name__
    return f"{type(error).__name__} {text}".strip()


def raise_failure(name: str, source: Any) -> None:
    """Raise what the source's own methods have raised, as a `VideoError`; nothing if they haven't."""
    failure = source.failure if isinstance(source, WatchedFile) else None
    if isinstance(failure, VideoError):
        raise failure
    if failure is not None:
        raise VideoError(name, cannot_be_read(failure)) from failure
