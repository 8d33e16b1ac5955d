"""Distinguish failures of the machine or of the caller's file object from damage of the video."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import av

from openxclip.errors import VideoError

NO_MEMORY = "it needs more memory than is available"
_CHUNK = 1 << 20

# Error numbers that FFmpeg also uses for data that it cannot decode, parse or seek in
_DATA_ERRORS = frozenset(
    {errno.EINVAL, errno.EAGAIN, errno.EDOM, errno.ERANGE, errno.ENOSYS, errno.EILSEQ, errno.ESPIPE, errno.EOPNOTSUPP}
)
_AMBIGUOUS_ERRORS = frozenset({errno.EIO, errno.EPERM})  # some demuxers return these at the end of damaged data
_HIGHEST_ERRNO = 4095  # FFmpeg's own error numbers are far above those of the system


class WatchedFile:
    """A caller's file object that records the exceptions of its methods.

    Libraries swallow or replace such an exception, and then report damaged data.

    Attributes:
        name: the file's own name, if it has one.
        failure: the first exception since `forget`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.name = str(getattr(file, "name", None) or "file object")
        self.failure: Exception | None = None

    def forget(self) -> None:
        """Forget the failure before another try."""
        self.failure = None

    def read(self, size: int = -1) -> bytes:
        """Read from the file."""
        try:
            return self._file.read(size)
        except Exception as error:
            self.failure = self.failure or error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek in the file."""
        try:
            return self._file.seek(offset, whence)
        except Exception as error:
            # damaged data name impossible positions; failing to seek there isn't a failure of the file
            if machine_failure(error) or getattr(self._file, "closed", False):
                self.failure = self.failure or error
            raise

    def tell(self) -> int:
        """Return the position in the file."""
        return self._file.tell()


def machine_failure(error: BaseException) -> str | None:
    """Return the system's message about a failure of the machine; None if the data may be at fault."""
    if isinstance(error, MemoryError):
        return NO_MEMORY
    if isinstance(error, av.error.FFmpegError) and error.errno in _AMBIGUOUS_ERRORS:
        return None
    if not isinstance(error, OSError) or error.errno is None:
        return None
    is_of_machine = error.errno not in _DATA_ERRORS and error.errno <= _HIGHEST_ERRNO
    return error_text(error) if is_of_machine else None


def ffmpeg_failure(error: BaseException, source: Any) -> str | None:
    """Return the same as `machine_failure`, but resolve FFmpeg's ambiguous errors by reading the file again.

    Args:
        error: the exception that PyAV raised.
        source: the source that FFmpeg was reading; only a path can be read again.
    """
    if getattr(error, "errno", None) in _AMBIGUOUS_ERRORS and isinstance(source, Path):
        return _read_error(source)
    return machine_failure(error)


def _read_error(path: Path) -> str | None:
    """Return the system's message if a file can't be read to its end; None if it can."""
    try:
        with path.open("rb") as file:
            while file.read(_CHUNK):
                pass
    except OSError as error:
        return error_text(error)
    return None


def cannot_be_read(error: BaseException) -> str:
    """Return the reason of a `VideoError` for a source that failed with this exception."""
    return NO_MEMORY if isinstance(error, MemoryError) else f"it cannot be read: {error_text(error)}"


def error_text(error: BaseException) -> str:
    """Return an exception's message on one line, without the number and file name of an `OSError`."""
    text = getattr(error, "strerror", None) if isinstance(error, OSError) else None
    text = " ".join(str(text or error).split())
    if isinstance(error, OSError | ValueError):
        return text or type(error).__name__
    return f"{type(error).__name__} {text}".strip()


@contextmanager
def explain_errors(name: str, explain: Callable[[Exception], str]) -> Iterator[None]:
    """Raise every exception as a `VideoError`.

    Args:
        name: name of the source in error messages.
        explain: returns the message for an exception that isn't a failure of the machine.
    """
    try:
        yield
    except VideoError:
        raise
    except Exception as error:
        reason = cannot_be_read(error) if machine_failure(error) else explain(error)
        raise VideoError(name, reason) from None


def raise_failure(name: str, source: Any) -> None:
    """Raise the recorded failure of a `WatchedFile` as a `VideoError`; do nothing if there is none."""
    failure = source.failure if isinstance(source, WatchedFile) else None
    if isinstance(failure, VideoError):
        raise failure
    if failure is not None:
        raise VideoError(name, cannot_be_read(failure)) from failure
