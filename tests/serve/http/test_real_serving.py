"""The real server: slow and leaving clients, signals under load, and what a killed server leaves."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from real_server import RealServer, everything

from openxclip.serve.server import HEADER_SECONDS

pytestmark = pytest.mark.slow

SAMPLES = Path(__file__).parents[3] / "samples"
CLIP = SAMPLES / "cat_moves_left.mp4"
BODY = {"labels": ["a cat moves left", "a dog bounces"], "path": "cat_moves_left.mp4"}


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


def test_accepted_requests_are_finished_after_sigterm(tmp_path: Path) -> None:
    with RealServer(tmp_path / "data", "--root", str(SAMPLES), "--queue", "100") as server:
        server.wait_until_loaded()
        idle = server.connect(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")  # kept alive
        statuses: list[object] = []

        def ask() -> None:
            try:
                statuses.append(httpx.post(f"{server.url}/v1/classify", json=BODY, timeout=60).status_code)
            except httpx.HTTPError as error:
                statuses.append(type(error).__name__)

        threads = [threading.Thread(target=ask) for _ in range(40)]
        for thread in threads:
            thread.start()
        while server.metric("running", lane="videos") + server.metric("queue", lane="videos") < 10:
            if len(statuses) > 30:
                break
            time.sleep(0.01)
        accepted = server.client.get("/healthz").status_code
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert server.process.wait(timeout=60) == 0
        assert accepted == 200
        answered = Counter(statuses)
        assert answered[200] >= 10
        assert set(answered) <= {200, 503, "ConnectError", "RemoteProtocolError", "ReadError"}, answered
        assert answered[200] + answered["ConnectError"] + answered[503] >= 38, answered  # the others never arrived
        idle.close()
        assert uploads_of(server) == []


def test_a_client_that_leaves_frees_the_model(tmp_path: Path) -> None:
    with RealServer(tmp_path / "data", "--root", str(SAMPLES)) as server:
        server.wait_until_loaded()
        body = b'{"labels": ["a cat"], "path": "cat_moves_left.mp4", "window": 0.05, "stride": 0.002}'
        head = b"POST /v1/timeline HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for _ in range(3):
            connection = server.connect(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.3)
            connection.close()
        end = time.monotonic() + 60
        while server.metric("running", lane="videos") + server.metric("queue", lane="videos") > 0:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert server.client.post("/v1/classify", json=BODY).status_code == 200


def test_what_a_killed_server_left_is_deleted_at_the_next_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with RealServer(data, "--no-preload") as server:
        sent = server.client.post("/v1/uploads", content=CLIP.read_bytes(), headers={"Content-Type": "video/mp4"})
        assert sent.status_code == 201
        server.stop(signal.SIGKILL)
        assert len(uploads_of(server)) == 1
    with RealServer(data, "--no-preload") as server:
        assert uploads_of(server) == []


def test_mistakes_of_the_command_are_one_sentence(tmp_path: Path) -> None:
    import subprocess
    import sys

    def run(*options: str) -> str:
        command = [sys.executable, "-m", "openxclip", "serve", "--data", str(tmp_path / "data"), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "can be reached from other machines" in run("--host", "0.0.0.0")
    assert "there is no such folder" in run("--root", str(tmp_path / "none"))
    (tmp_path / "token").write_text("short\n")
    assert "8 or more" in run("--token-file", str(tmp_path / "token"))
    with RealServer(tmp_path / "other", "--no-preload") as server:
        assert "can't be listened on: Address already in use" in run("--port", str(server.port))
