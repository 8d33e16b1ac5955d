"""The real server: slow clients, large bodies, and what a killed server leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from real_server import RealServer, everything

from openxclip.serve.server import HEADER_SECONDS

pytestmark = pytest.mark.slow

SAMPLES = Path(__file__).parents[3] / "samples"
CLIP = SAMPLES / "cat_moves_left.mp4"


def uploads_of(server: RealServer) -> list[Path]:
    return list((server.data / "uploads").iterdir())


def test_slow_headers_and_early_refusals(tmp_path: Path) -> None:
    with RealServer(tmp_path / "data", "--root", str(SAMPLES), "--max-upload", "1MB", "--no-preload") as server:
        started = time.monotonic()
        slow = [server.connect(start) for start in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ")]
        assert [everything(connection) for connection in slow] == [b"", b"", b""]  # closed, without an answer
        assert time.monotonic() - started < 6 * HEADER_SECONDS
        large = b"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\n"
        by_length = everything(server.connect(large + b"Content-Length: 99999999999\r\n\r\n"))
        assert b" 413 " in by_length.splitlines()[0]
        headers = {"Content-Type": "video/mp4"}
        assert server.client.post("/v1/uploads", content=CLIP.read_bytes(), headers=headers).status_code == 201
        chunks = (b"x" * 65536 for _ in range(400))
        with suppress(httpx.WriteError):  # the server may close the connection while the rest is still being sent
            refused = server.client.post("/v1/classify?labels=a", content=chunks, headers=headers)
            assert refused.status_code == 413
        assert len(uploads_of(server)) == 1  # the one that was accepted
        two = everything(
            server.connect(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n")
        )
        assert b" 400 " in two.splitlines()[0]
        many = b"".join(b"X-%d: %s\r\n" % (i, b"a" * 1000) for i in range(2000))
        huge = everything(server.connect(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + many + b"\r\n"))
        assert b" 431 " in huge.splitlines()[0]
        assert server.client.get("/healthz").status_code == 200
        assert server.stop() == 0
        assert uploads_of(server) == []


def test_what_a_killed_server_left_is_deleted_at_the_next_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with RealServer(data, "--no-preload") as server:
        sent = server.client.post("/v1/uploads", content=CLIP.read_bytes(), headers={"Content-Type": "video/mp4"})
        assert sent.status_code == 201
        server.stop(signal.SIGKILL)
        assert len(uploads_of(server)) == 1
    with RealServer(data, "--no-preload") as server:
        assert uploads_of(server) == []
        command = [sys.executable, "-m", "openxclip", "serve", "--data", tmp_path / "other", "--port", str(server.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "can't be listened on: Address already in use" in done.stderr
        assert "Traceback" not in done.stderr
