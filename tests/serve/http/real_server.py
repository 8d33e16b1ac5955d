"""A real server in a process of its own, for slow tests."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import httpx


class RealServer:
    """`openxclip serve` with mini on a free port.

    Args:
        data: its data folder.
        options: more options of the command.
    """

    def __init__(self, data: Path, *options: str) -> None:
        self.data, self.log = data, data.parent / f"{data.name}.log"
        command = [sys.executable, "-m", "openxclip", "serve", "--model", "mini", "--port", "0", "--data", str(data)]
        self._file = self.log.open("wb")
        self.process = subprocess.Popen([*command, *options], stderr=self._file)
        self.url = self._wait_for_address()
        self.port = int(self.url.rpartition(":")[2])
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def _wait_for_address(self) -> str:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            match = re.search(r"serving mini on (http://\S+)", self.log.read_text())
            if match:
                return match[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def connect(self, data: bytes) -> socket.socket:
        """Return a connection on which these bytes were sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(data)
        return connection

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=120)

    def __enter__(self) -> RealServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.stop()
        self._file.close()


def everything(connection: socket.socket) -> bytes:
    """Return what comes on a connection until its end, and close it."""
    found = b""
    with connection, suppress(ConnectionError):
        while block := connection.recv(65536):
            found += block
    return found
