"""What happens to work when the server is killed or stopped under load, when clients leave, and when it is idle."""

from __future__ import annotations

import signal
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


def test_clients_leave_an_idle_model_is_unloaded_and_accepted_requests_are_answered_after_sigterm(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path, "--root", SAMPLES, "--idle-unload", 4)
    try:
        server.wait()
        assert classify(server).status_code == 200
        check_that_leaving_frees_work(server)
        check_that_an_idle_model_is_unloaded(server)
        assert classify(server).status_code == 200
        check_sigterm_under_load(server)
    finally:
        server.stop(signal.SIGKILL)


def check_that_leaving_frees_work(server: Server) -> None:
    timeline = {"labels": ["a cat"], "path": "cat_moves_left.mp4", "window": 0.5, "stride": 0.002}
    for _ in range(3):  # work that would take long
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/v1/timeline", json=timeline, timeout=httpx.Timeout(60, read=0.3))
    with pytest.raises(httpx.ReadTimeout):
        classify(server, httpx.Timeout(60, read=0.001))
    for _ in range(600):
        told = server.http.get("/readyz").json()
        left = list((server.folder / "data" / "uploads").iterdir())
        if told["queue"] == told["running"] == len(left) == 0:
            break
        time.sleep(0.1)
    assert (told["queue"], told["running"], left) == (0, 0, [])


def check_that_an_idle_model_is_unloaded(server: Server) -> None:
    for _ in range(300):
        (model,) = server.http.get("/v1/models").json()["data"]
        if model["state"] == "unloaded":
            break
        time.sleep(0.1)
    assert model["state"] == "unloaded"
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(server.process.pid)]
    assert not any(b"model_child" in command for command in commands)


def check_sigterm_under_load(server: Server) -> None:
    def logged() -> int:
        return server.log.read_text().count("POST /v1/classify")

    while (before := logged()) < 3:  # two that were answered, and one whose client left
        time.sleep(0.05)
    answers: list[Any] = []
    with ThreadPoolExecutor(16) as pool:

        def ask() -> None:
            while True:
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
    given = [answer for answer in answers if isinstance(answer, httpx.Response)]
    assert {answer.status_code for answer in given} <= {200, 503}, [answer.text for answer in given][-20:]
    assert {answer.json()["error"]["code"] for answer in given if answer.status_code == 503} <= {"stopping"}
    # A connection that the system had taken, but not yet the server, is closed. All that the server saw has an answer.
    assert logged() - before == len(given)
