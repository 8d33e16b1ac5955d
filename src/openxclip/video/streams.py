"""Read pipes, which can only be read once, into memory."""

from __future__ import annotations

import io
import os
import select
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from openxclip.errors import VideoError
from openxclip.video.failures import cannot_be_read
from openxclip.video.limits import Deadline, Limits

_CHUNK = 1 << 20


class NamedBytes(io.BytesIO):
    """Bytes with the name of the source they were read from."""

    def __init__(self, data: Any, name: str) -> None:
        super().__init__(data)
        self.name = name


def is_pipe(path: Path) -> bool:
    """Return whether a path is a pipe or a socket, not a file, folder or device."""
    mode = path.stat().st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def read_pipe(source: Path | BinaryIO, *, name: str, limits: Limits) -> NamedBytes:
    """Read a pipe to its end.

    Args:
        source: the path of a pipe, or a binary file object that can't seek.
        name: name of the source in error messages.
        limits: `seconds` bounds the wait for the end, `memory` the bytes read. (A file object that isn't the system's,
            such as a web response, may exceed `seconds` in one `read`.)

    Raises:
        VideoError: a limit is exceeded, or the pipe can't be read.
        TypeError: the file object returns text.
    """
    try:
        if isinstance(source, Path):
            with open(source, "rb", buffering=0, opener=_open_without_waiting) as file:
                return read_pipe(file, name=name, limits=limits)
        deadline = Deadline(limits.seconds, name)
        raw = getattr(source, "raw", source)
        if not isinstance(raw, io.FileIO) or not hasattr(select, "poll"):  # Windows has no poll
            return _collect(lambda: source.read(_CHUNK), name, limits, deadline)
        first = _take_buffered(source, raw.fileno())
        return _collect(lambda: _read_available(raw.fileno(), deadline), name, limits, deadline, first)
    except OSError as error:
        raise VideoError(name, cannot_be_read(error)) from error


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a pipe even if no process writes to it yet: the wait for one has the time limit."""
    return os.open(path, flags | (os.O_NONBLOCK if hasattr(select, "poll") else 0))


def _collect(
    read: Callable[[], bytes], name: str, limits: Limits, deadline: Deadline, first: bytes = b""
) -> NamedBytes:
    parts = NamedBytes(b"", name)
    part = first or read()
    while part:
        if not isinstance(part, bytes | bytearray | memoryview):
            raise TypeError('the file is open as text: open it in binary mode ("rb")')
        parts.write(part)
        limits.check_content_size(name, parts.tell())
        deadline.check()
        part = read()
    parts.seek(0)
    return parts


def _take_buffered(source: Any, fd: int) -> bytes:
    """Return what a file object has already buffered, without waiting for more."""
    if not hasattr(source, "read1"):
        return b""
    was_blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    try:
        return bytes(source.read1(_CHUNK) or b"")
    finally:
        os.set_blocking(fd, was_blocking)


def _read_available(fd: int, deadline: Deadline) -> bytes:
    """Return the next bytes of a pipe; none if all writers have closed it."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        left = deadline.left()
        if poll.poll(None if left is None else int(left * 1000) + 1):
            try:
                return os.read(fd, _CHUNK)
            except BlockingIOError:  # another reader was faster
                pass
        deadline.check()
