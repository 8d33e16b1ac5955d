"""Broken videos of every kind: each gets an answer with a reason, and the server stays as it is."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from mutating import mutated_videos
from serving import SAMPLES, Server, memory_of

VIDEOS = 60  # benchmarks/serve_mutated.py sends 500
WARM = 24  # requests after which memory may no longer grow
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


async def ask_all(server: Server, videos: list[tuple[str, bytes]]) -> tuple[list[httpx.Response], list[int]]:
    """Send the videos, some at a time; return the answers, and the memory after each hundredth."""
    memory = []
    answers: list[httpx.Response] = []
    async with httpx.AsyncClient(base_url=server.url, timeout=300, trust_env=False) as http:
        for first in range(0, len(videos), 6):
            requests = []
            for number, (name, data) in enumerate(videos[first : first + 6], first):
                route = "timeline" if number % 5 == 4 else "classify"
                files = {"file": (name, data, "application/octet-stream")}
                requests.append(http.post(f"/v1/{route}", data={"labels": ["a cat", "an owl"]}, files=files))
            answers += await asyncio.gather(*requests)
            memory.append(memory_of(server.process.pid))
    return answers, memory


def test_each_mutated_video_has_an_answer_with_a_reason(served: Server) -> None:
    videos = list(mutated_videos(sorted(SAMPLES.glob("*.mp4")), VIDEOS))
    answers, memory = asyncio.run(ask_all(served, videos))
    good = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 422]
    others = [
        (name, answer.status_code, answer.text[:300])
        for (name, _), answer in zip(videos, answers, strict=True)
        if answer.status_code not in (200, 422)
    ]
    assert not others
    assert len(good) > VIDEOS / 10, "mutations are too strong to test anything but headers"
    assert len(refused) > VIDEOS / 10
    for answer in refused:
        error = answer.json()["error"]
        assert error["code"].startswith("video_"), error
        assert len(error["message"]) > 10
        assert str(served.folder) not in answer.text, "a path of the server"
    warm, end = memory[WARM // 6 : WARM // 6 + 4], memory[-4:]
    assert min(end) < max(warm) + 60e6, memory
    data = served.folder / "data"
    assert not list((data / "uploads").iterdir())
    owl = (SAMPLES / "owl_vanishes.mp4").read_bytes()
    answer = served.http.post(
        "/v1/classify?labels=an+owl+vanishes&labels=a+cat", headers={"Content-Type": "video/mp4"}, content=owl
    )
    assert answer.json()["result"]["outcome"] == "an owl vanishes"
