"""A stand-in for a server, which answers requests of a client from a list and keeps them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

CLASSIFICATION = {
    "path": "cat.mp4",
    "outcome": "a cat",
    "labels": [
        {"label": "a cat", "probability": 0.75, "score": 0.9},
        {"label": "a dog", "probability": 0.25, "score": 0.1},
    ],
    "none_of_these": 0.1,
    "times": [[0.125, 0.375, None]],
}
TIMELINE = {
    "path": "cat.mp4", "duration": 3.0, "fps": 25.0, "size": [64, 48], "window": 1.0, "stride": 1.0, "windows": 3,
    "reused": 1, "labels": [{"label": "a cat", "threshold": 0.5, "best": 0.9, "best_time": 1.5}],
    "segments": [{"label": "a cat", "start": 1.0, "end": 2.0, "score": 0.9, "peak": 1.5}], "notes": ["a note"],
    "cuts": [1.5], "scores": {"start": [0, 1, 2], "end": [1, 2, 3], "labels": {"a cat": [0.1, 0.9, None]}},
}  # fmt: skip
HIT = {
    "id": "m1", "path": "/films/cat.mp4", "start": 1.0, "end": 3.0, "best_start": 1.5, "best_end": 2.5, "windows": 2,
    "duration": 10.0, "score": 0.9, "similarity": 0.5, "reranked": True, "video": "films/cat.mp4",
    "thumbnail": "/v1/videos/films/cat.mp4/frame?t=2", "preview": "/v1/videos/films/cat.mp4/stream", "later": 1,
}  # fmt: skip
JOB = {"id": "j1", "kind": "index", "state": "running", "created": 1.0, "progress": {"done": 1, "total": 2}}


def refusal(status: int, code: str, message: str, hint: str | None = None, **headers: str) -> httpx.Response:
    body = {"error": {"code": code, "message": message, "hint": hint}}
    return httpx.Response(status, json=body, headers=headers)


def events(*given: tuple[str, Any], first: int = 1) -> httpx.Response:
    """A stream of events, with numbers and a comment between them."""
    lines = [
        f"id: {n}\nevent: {name}\ndata: {json.dumps(data)}\n\n: alive\n\n"
        for n, (name, data) in enumerate(given, first)
    ]
    return httpx.Response(200, text="".join(lines), headers={"content-type": "text/event-stream"})


class Answers:
    """Answers requests in order; the last answer stays. A function in place of an answer is called with the request."""

    def __init__(self, *given: httpx.Response | dict[str, Any] | Exception | Callable[[httpx.Request], Any]) -> None:
        self.given = list(given)
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(request.read())
        return self._answer(request)

    async def awaited(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(await request.aread())
        return self._answer(request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = self.given.pop(0) if len(self.given) > 1 else self.given[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(200, json=answer) if isinstance(answer, dict) else answer

    def sent(self, number: int = -1) -> Any:
        return json.loads(self.bodies[number])
