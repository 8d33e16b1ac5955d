"""What happens to work when the server is killed, stopped under load, or loses its model."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import SAMPLES, Server, processes_of, running

from openxclip import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LABELS = {"labels": ["an owl vanishes", "a cat moves left"]}
OWL = (SAMPLES / "owl_vanishes.mp4").read_bytes()


def classify(server: Server, timeout: httpx.Timeout | float = 120) -> httpx.Response:
    headers = {"Content-Type": "video/mp4"}
    return httpx.post(f"{server.url}/v1/classify", params=LABELS, headers=headers, content=OWL, timeout=timeout)


def many_videos(folder: Path, count: int = 60) -> Path:
    """A root with different videos: copies of the samples with a few bytes more at their ends."""
    folder.mkdir()
    samples = sorted(SAMPLES.glob("*.mp4"))
    for number in range(count):
        content = samples[number % len(samples)].read_bytes()
        box = (8 + 8).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")
        (folder / f"{number}.mp4").write_bytes(content + box)
    return folder


def test_a_killed_server_leaves_no_process_and_loses_no_job(tmp_path: Path) -> None:
    root = many_videos(tmp_path / "films")
    server = Server(tmp_path, "--root", root)
    children = []
    try:
        server.wait()
        assert classify(server).status_code == 200
        assert server.http.get("/v1/videos/films/0.mp4/frame").status_code == 200
        with Client(server.url) as client:
            job = client.index.add("films")
            for _ in range(1200):
                now = client.job(job)
                if now.state == "running" and (now.progress or {}).get("done"):
                    break
                assert not now.is_over, "the job is too short for this test"
                time.sleep(0.05)
            children = processes_of(server.process.pid)
    finally:
        server.stop(signal.SIGKILL)
    assert len(children) >= 7  # the server, the model, the process for frames and the job, and their decoders
    for _ in range(200):
        left = [pid for pid in children if Path(f"/proc/{pid}").exists()]
        if not left:
            break
        time.sleep(0.1)
    assert not left, "processes outlive the server"
    with running(tmp_path, "--root", root, "--no-preload", port=server.port) as again, Client(again.url) as client:
        done = client.wait(job)
        assert done.state == "done"
        assert done.result is not None
        assert done.result["added"] + done.result["unchanged"] == 60
        assert len(client.jobs()) == 1


def test_accepted_requests_are_answered_after_sigterm(tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        server.wait()
        classify(server)
        answers: list[Any] = []
        with ThreadPoolExecutor(16) as pool:
            stopping = threading.Event()

            def ask() -> None:
                while not stopping.is_set():
                    try:
                        answers.append(classify(server))
                    except httpx.TransportError as error:  # noqa: PERF203 (the server no longer listens)
                        answers.append(error)
                        return

            tasks = [pool.submit(ask) for _ in range(16)]
            while sum(isinstance(answer, httpx.Response) for answer in answers) < 32:
                time.sleep(0.05)
            server.process.send_signal(signal.SIGTERM)
            for task in tasks:
                task.result(timeout=120)
        assert server.process.wait(60) == 0, server.log.read_text()
    finally:
        server.stop(signal.SIGKILL)
    given = [answer for answer in answers if isinstance(answer, httpx.Response)]
    assert {answer.status_code for answer in given} <= {200, 503}, [answer.text for answer in given][-20:]
    assert {answer.json()["error"]["code"] for answer in given if answer.status_code == 503} <= {"stopping"}
    # A connection that the system had taken, but not yet the server, is closed. All that the server saw has an answer.
    logged = server.log.read_text().splitlines()
    seen = sum("POST /v1/classify" in line for line in logged)
    assert seen == len(given) + 1


def model_of(server: Server) -> list[int]:
    return [pid for pid in processes_of(server.process.pid) if b"model_child" in _command_of(pid)]


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_clients_leave_the_model_is_killed_and_an_idle_model_is_unloaded(tmp_path: Path) -> None:
    with running(tmp_path, "--root", SAMPLES, "--idle-unload", 4) as server:
        assert classify(server).status_code == 200
        timeline = {"labels": ["a cat"], "path": "cat_moves_left.mp4", "window": 0.05, "stride": 0.002}
        for _ in range(3):  # work that would take long
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{server.url}/v1/timeline", json=timeline, timeout=httpx.Timeout(60, read=0.3))
        with pytest.raises(httpx.ReadTimeout):
            classify(server, httpx.Timeout(60, read=0.001))
        for _ in range(600):
            told = server.http.get("/readyz").json()
            if told["queue"] == told["running"] == 0:
                break
            time.sleep(0.1)
        assert (told["queue"], told["running"]) == (0, 0)
        assert not list((tmp_path / "data" / "uploads").iterdir())

        (first,) = model_of(server)
        with ThreadPoolExecutor(8) as pool:
            tasks = [pool.submit(classify, server) for _ in range(24)]
            time.sleep(0.3)
            os.kill(first, signal.SIGKILL)
            answers = [task.result() for task in tasks]
        gone = [answer for answer in answers if answer.status_code == 503]
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert len(gone) <= 2
        assert all(answer.json()["error"]["code"] == "model_gone" for answer in gone)
        assert classify(server).status_code == 200

        for _ in range(300):
            (model,) = server.http.get("/v1/models").json()["data"]
            if model["state"] == "unloaded":
                break
            time.sleep(0.1)
        assert model["state"] == "unloaded"
        assert not model_of(server)
        assert classify(server).status_code == 200
