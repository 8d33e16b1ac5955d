"""Messages between the server and its processes: pickles, each after its length, on two pipes.

Both ends are this package's own code. Decoders, which a malicious file could take over, are other processes; they send
JSON (see `openxclip.video.worker`).
"""

from __future__ import annotations

import pickle
import struct
import threading
from typing import Any, BinaryIO

_LENGTH = struct.Struct(">Q")


class Channel:
    """Sends and receives messages. Several threads may send, and one receives.

    Args:
        reading: file to read messages from.
        writing: file to write messages to.
    """

    def __init__(self, reading: BinaryIO, writing: BinaryIO) -> None:
        self._reading, self._writing = reading, writing
        self._lock = threading.Lock()  # so that messages of two threads don't mix

    def send(self, message: tuple[Any, ...]) -> None:
        """Send a message. OSError or ValueError if the other end or the file is closed."""
        self.write(encode(message))

    def write(self, data: bytes) -> None:
        """Send a message that `encode` made."""
        with self._lock:
            self._writing.write(data)
            self._writing.flush()

    def receive(self) -> tuple[Any, ...] | None:
        """Wait for the next message; None if the other end has closed its file or its process has ended."""
        header = self._read(_LENGTH.size)
        data = None if header is None else self._read(_LENGTH.unpack(header)[0])
        return None if data is None else pickle.loads(data)

    def _read(self, size: int) -> bytes | None:
        try:
            data = self._reading.read(size)
        except (OSError, ValueError):
            return None
        return data if len(data) == size else None


def encode(message: tuple[Any, ...]) -> bytes:
    """Return a message as bytes; an error if it can't be pickled."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data
