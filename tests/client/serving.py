"""Start `openxclip serve` in a process of its own, as users do, and look at its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def processes_of(pid: int) -> list[int]:
    """A process and its descendants."""
    pids = [pid]
    for each in pids:
        with contextlib.suppress(OSError):  # it has ended
            for thread in Path(f"/proc/{each}/task").iterdir():
                pids += map(int, (thread / "children").read_text().split())
    return pids


def memory_of(pid: int) -> int:
    """Proportional set size of a process and its descendants, in bytes."""
    total = 0
    for each in processes_of(pid):
        with contextlib.suppress(OSError, IndexError):  # it has ended
            total += int(Path(f"/proc/{each}/smaps_rollup").read_text().split("Pss:")[1].split()[0]) * 1024
    return total


class Server:
    """A server with mini, on a port of its own."""

    def __init__(self, folder: Path, *options: object, port: int | None = None) -> None:
        self.folder, self.port = folder, port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log.txt"
        words = ["--model", "mini", "--port", str(self.port), "--data", str(folder / "data"), *map(str, options)]
        kept = {name: value for name, value in os.environ.items() if name != "OPENXCLIP_TOKEN"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "openxclip", "serve", *words], cwd=folder, stdout=log, stderr=log, env=kept
            )
        self.http = httpx.Client(base_url=self.url, timeout=300, trust_env=False)

    def wait(self, path: str = "/readyz") -> None:
        """Wait until a route answers with status 200."""
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(httpx.TransportError):
                if self.http.get(path).status_code == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(f"{path} isn't ready: {self.log.read_text()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the server by a signal, and return its status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(90)
        finally:
            self.http.close()
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def running(folder: Path, *options: object, port: int | None = None, check_log: bool = True) -> Iterator[Server]:
    """A server that answers, for the block; it must end by SIGTERM with status 0, and log no traceback."""
    server = Server(folder, *options, port=port)
    try:
        server.wait()
        yield server
    except BaseException:
        server.stop(signal.SIGKILL)
        raise
    status = server.stop()
    assert status == 0, server.log.read_text()
    assert not check_log or "Traceback" not in server.log.read_text(), server.log.read_text()
