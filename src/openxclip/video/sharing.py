"""Pass pixels between two processes through a memory-mapped file."""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KEPT_BYTES = 256 << 20  # the most that the file keeps between two reads

BY_DESCRIPTOR = os.name != "nt"  # whether a child inherits open files; otherwise it opens them by name


class SharedFile:
    """A file that parent and child both map; it has no name, except on Windows."""

    def __init__(self, address: str | None = None) -> None:
        """Create a file, or open the file of another process by its address (a file descriptor or a path).

        Raises:
            OSError: the file can't be created or opened.
        """
        self._creator = os.getpid() if address is None else None
        self.address = address or ""
        if address is not None:
            self._file: Any = open(int(address) if address.isdecimal() else address, "r+b", buffering=0)  # noqa: PTH123, SIM115
        elif not BY_DESCRIPTOR:
            self._file = tempfile.NamedTemporaryFile(buffering=0, delete=False)  # noqa: SIM115
            self.address = self._file.name
        else:
            if hasattr(os, "memfd_create"):
                fd = os.memfd_create("openxclip")
            else:
                with tempfile.TemporaryFile(buffering=0) as file:
                    fd = os.dup(file.fileno())
            self._file = os.fdopen(move_above_standard_streams(fd), "r+b", buffering=0)
            self.address = str(self._file.fileno())
        self.fd: int = self._file.fileno()
        self._map: mmap.mmap | None = None

    def write(self, data: bytes | memoryview) -> None:
        """Replace the content of the file."""
        self._file.seek(0)
        self._file.truncate(0)
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise _no_room(error) from None

    def read(self, size: int) -> bytes:
        """Return the first `size` bytes."""
        self._file.seek(0)
        return b"".join(iter(lambda: self._file.read(min(size - self._file.tell(), 1 << 30)), b""))

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return an array in the file, which is enlarged if necessary."""
        size = math.prod(shape)
        if self._map is None or len(self._map) < size or os.fstat(self.fd).st_size < size:
            self._map = None
            self._grow(size)
            self._map = mmap.mmap(self.fd, size)
        return np.frombuffer(self._map, dtype=np.uint8, count=size).reshape(shape)

    def _grow(self, size: int) -> None:
        try:
            if hasattr(os, "posix_fallocate"):
                try:
                    os.posix_fallocate(self.fd, 0, size)  # if there is no memory, fails now instead of crashing later
                    return
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not supported by the file system
                        raise
            self._file.truncate(size)
        except OSError as error:
            raise _no_room(error) from None

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return a copy of the array that the other process wrote, and shrink the file.

        The mapping is kept, because mapping the pages again takes more time than copying them.

        Raises:
            ValueError: the shape is empty, or larger than the file.
        """
        size = math.prod(shape)
        if not 0 < size <= os.fstat(self.fd).st_size:  # reading behind the end would end this process
            raise ValueError(f"an array of {size} bytes does not fit into its file")
        if self._map is None or len(self._map) < size:
            self._map = None
            self._map = mmap.mmap(self.fd, size, access=mmap.ACCESS_READ)
        array = np.frombuffer(self._map, dtype=np.uint8, count=size).reshape(shape).copy()
        self.shrink()
        return array

    def shrink(self) -> None:
        """Free the memory of a large file."""
        if os.fstat(self._file.fileno()).st_size > _KEPT_BYTES:
            self._map = None
            with contextlib.suppress(OSError):  # Windows can't truncate a file that the child has mapped
                self._file.truncate(0)

    def tail(self, size: int) -> bytes:
        """Return the last `size` bytes."""
        self._file.seek(max(0, os.fstat(self.fd).st_size - size))
        return bytes(self._file.read(size))

    def close(self) -> None:
        """Close the file; the process that created it also deletes it, if it has a name."""
        self._map = None
        self._file.close()
        if self._creator == os.getpid() and not self.address.isdecimal():
            with contextlib.suppress(OSError):
                Path(self.address).unlink()


def move_above_standard_streams(fd: int) -> int:
    """Duplicate a descriptor that has the number of a closed standard stream; return one above 2."""
    if fd > 2:
        return fd
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    try:
        return fcntl(fd, F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def _no_room(error: OSError) -> OSError:
    reason = f"there is no room to pass it on between processes ({error.strerror or error})"
    return OSError(error.errno or errno.ENOSPC, reason)
