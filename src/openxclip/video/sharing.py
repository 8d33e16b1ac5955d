"""Pixels between two processes: a file that both map."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KEPT_BYTES = 256 << 20  # of the file, between two reads


class SharedFile:
    """A file that parent and child both map; without a name, where the system has such."""

    def __init__(self, address: str | None = None) -> None:
        """A new one, or that of another process."""
        if address is not None:
            self._file: Any = open(int(address) if address.isdecimal() else address, "r+b", buffering=0)  # noqa: PTH123, SIM115
        elif hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("openxclip"), "r+b", buffering=0)
        elif os.name == "nt":
            self._file = tempfile.NamedTemporaryFile(buffering=0, delete=False)  # noqa: SIM115
        else:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        if address is None and os.name != "nt" and self._file.fileno() < 3:
            # where a standard stream was closed, its number is free: not for a file that the child inherits
            from fcntl import F_DUPFD_CLOEXEC, fcntl

            free = self._file
            self._file = os.fdopen(fcntl(free.fileno(), F_DUPFD_CLOEXEC, 3), "r+b", buffering=0)
            free.close()
        self.fd: int = self._file.fileno()
        self.address = self._file.name if os.name == "nt" else str(self.fd)
        self._map: mmap.mmap | None = None

    def write(self, data: bytes | memoryview) -> None:
        """Make this its content."""
        self._file.seek(0)
        self._file.truncate(0)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def read(self, size: int) -> bytes:
        """Its first bytes."""
        self._file.seek(0)
        return b"".join(iter(lambda: self._file.read(min(size - self._file.tell(), 1 << 30)), b""))

    def make_room(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array that is the beginning of the file, which grows as needed."""
        size = math.prod(shape)
        if self._map is None or len(self._map) < size or os.fstat(self.fd).st_size < size:
            self._map = None
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.fd, 0, size)  # an error now, if the memory isn't there, and no crash later
            else:
                self._file.truncate(size)
            self._map = mmap.mmap(self.fd, size)
        return np.frombuffer(self._map, dtype=np.uint8, count=size).reshape(shape)

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """A copy of the array that the other process has made there."""
        with mmap.mmap(self._file.fileno(), math.prod(shape), access=mmap.ACCESS_READ) as mapped:
            array = np.frombuffer(mapped, dtype=np.uint8).reshape(shape).copy()
        self.shrink()
        return array

    def shrink(self) -> None:
        """Give memory back, if it is much."""
        if os.fstat(self._file.fileno()).st_size > _KEPT_BYTES:
            with contextlib.suppress(OSError):  # Windows can't while the child has it mapped
                self._file.truncate(0)

    def close(self) -> None:
        """Let go of it."""
        self._file.close()
        if os.name == "nt":
            with contextlib.suppress(OSError):
                Path(self.address).unlink()
