"""What happens to work when the server is killed, stopped under load, or loses its model."""

from __future__ import annotations

import os
import shutil
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


def test_an_index_job_survives_a_killed_server(tmp_path: Path) -> None:
    root = many_videos(tmp_path / "films")
    server = Server(tmp_path, "--root", root)
    children = []
    try:
        server.wait("/healthz")
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
    for _ in range(200):
        if not any(Path(f"/proc/{pid}").exists() for pid in children):
            break
        time.sleep(0.1)
    left = [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert not left, "processes outlive the server"
    with running(tmp_path, "--root", root, port=server.port) as again, Client(again.url) as client:
        done = client.wait(job)
        assert done.state == "done"
        assert client.index.info().videos == 60
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


def test_a_killed_model_is_an_error_of_its_requests_alone(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert classify(server).status_code == 200
        before = {answer["id"]: answer for answer in server.http.get("/v1/models").json()["data"]}
        assert before["mini"]["state"] == "ready"
        with ThreadPoolExecutor(8) as pool:
            tasks = [pool.submit(classify, server) for _ in range(24)]
            time.sleep(0.3)
            model = [pid for pid in processes_of(server.process.pid) if b"model_child" in _command_of(pid)]
            os.kill(model[0], signal.SIGKILL)
            answers = [task.result() for task in tasks]
        gone = [answer for answer in answers if answer.status_code == 503]
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert len(gone) <= 2
        assert all(answer.json()["error"]["code"] == "model_gone" for answer in gone)
        assert classify(server).status_code == 200


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_an_idle_model_is_unloaded_and_loaded_again(tmp_path: Path) -> None:
    with running(tmp_path, "--idle-unload", 2) as server:
        assert classify(server).status_code == 200
        for _ in range(200):
            (model,) = server.http.get("/v1/models").json()["data"]
            if model["state"] == "unloaded":
                break
            time.sleep(0.1)
        assert model["state"] == "unloaded"
        assert not [pid for pid in processes_of(server.process.pid) if b"model_child" in _command_of(pid)]
        assert classify(server).status_code == 200


def test_a_client_that_leaves_frees_its_work(tmp_path: Path) -> None:
    long = tmp_path / "long"
    long.mkdir()
    shutil.copy(SAMPLES / "owl_vanishes.mp4", long / "a.mp4")
    with running(tmp_path, "--root", long) as server:
        classify(server)
        impatient = httpx.Timeout(60, read=0.001)
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                classify(server, impatient)
        for _ in range(100):
            told = server.http.get("/readyz").json()
            if told["queue"] == told["running"] == 0:
                break
            time.sleep(0.05)
        assert (told["queue"], told["running"]) == (0, 0)
        assert not list((tmp_path / "data" / "uploads").iterdir())
