"""An engine and a list of jobs for tests of the HTTP side: no process, no model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from openxclip.serve.app import create_app
from openxclip.serve.engine import tasks
from openxclip.serve.engine.errors import JobNotFoundError
from openxclip.serve.engine.job_store import Job, JobEvent
from openxclip.serve.engine.state import EngineState
from openxclip.serve.settings import ServeSettings

VIDEO = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 8
H264 = {"container": "mp4", "codec": "h264", "pixel_format": "yuv420p", "duration": 2.0, "error": None}


class FakeEngine:
    """Answers every task at once, and keeps the tasks and what their files held."""

    def __init__(self) -> None:
        self.tasks: list[tasks.Task] = []
        self.contents: list[bytes] = []
        self.error: BaseException | None = None
        self.report: dict[str, Any] = dict(H264)
        self.hits: list[dict[str, Any]] = []
        self.blocks: asyncio.Event | None = None  # set by a test: tasks wait for it
        self.cancelled = 0
        self.progress: list[tuple[float, float]] = []
        self.loading = "ready"
        self.problem: str | None = None
        self.full: BaseException | None = None  # what refuses requests before their body

    async def start(self) -> None: ...

    async def stop(self, *, grace: float = 30.0) -> None: ...

    def check_room(self) -> None:
        if self.full is not None:
            raise self.full

    @property
    def state(self) -> EngineState:
        return EngineState(
            state=self.loading,
            model="mini",
            error="/secret: broken",
            problem=self.problem,
            precision="fp32",
            device="cpu",
        )

    async def run(self, task: tasks.Task, *, on_progress: Callable[[float, float], None] | None = None) -> Any:
        self.tasks.append(task)
        path = getattr(task, "path", None)
        if path is not None:
            self.contents.append(Path(path).read_bytes())
        if self.error is not None:
            raise self.error
        for done, duration in self.progress:
            if on_progress is not None:
                on_progress(done, duration)
            await asyncio.sleep(0)
        if self.blocks is not None:
            try:
                await self.blocks.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return self._result(task)

    def _result(self, task: tasks.Task) -> Any:
        if isinstance(task, tasks.ClassifyTask):
            labels = [{"label": label, "probability": 1 / len(task.labels), "score": 0.5} for label in task.labels]
            result = {"path": task.name, "outcome": task.labels[0], "labels": labels[: task.top]}
            return {"model": "x", "result": {**result, "none_of_these": 0.5, "times": [[0.0]]}, "notes": []}
        if isinstance(task, tasks.TimelineTask):
            empty: dict[str, Any] = dict.fromkeys(("duration", "fps", "size", "window", "stride"))
            result = {"path": task.name, **empty, "windows": 0, "labels": [], "segments": [], "notes": []}
            return {"model": "x", "result": {**result, "duration": float("nan")}, "notes": []}
        if isinstance(task, tasks.EmbedTextsTask):
            return {"model": "x", "embeddings": np.eye(4, dtype=np.float32)[: len(task.texts)], "tokens": 7}
        if isinstance(task, tasks.EmbedVideoTask):
            return {"model": "x", "embeddings": np.eye(4, dtype=np.float32)[:1], "frames": 8}
        if isinstance(task, tasks.SearchTask):
            return {"model": "x", "hits": self.hits, "notes": []}
        if isinstance(task, tasks.IndexInfoTask):
            return {"videos": 1, "windows": 2, "model": "mini", "window": 2.0, "stride": 1.0}
        if isinstance(task, tasks.CheckTask):
            return {**self.report, "path": task.name}
        if isinstance(task, tasks.FrameTask):
            return b"\xff\xd8jpeg"
        if isinstance(task, tasks.PreviewTask):
            task.out.write_bytes(b"preview")
            return {"size": 7}
        return {"model": "x", "contract": {}}


class FakeJobs:
    """Jobs that are done by the next question."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def submit(self, kind: str, arguments: dict[str, Any]) -> Job:
        job = Job(id=f"job{len(self.jobs)}", kind=kind, state="queued", arguments=arguments, created=1.0)
        self.jobs[job.id] = job
        return job

    async def get(self, job_id: str) -> Job:
        if job_id not in self.jobs:
            raise JobNotFoundError(f"job {job_id!r}: there is none.")
        return self.jobs[job_id]

    async def list(self, *, limit: int = 100) -> list[Job]:
        return list(self.jobs.values())[:limit]

    async def cancel(self, job_id: str) -> Job:
        return await self.get(job_id)

    async def events(self, job_id: str, *, after: int = 0) -> AsyncIterator[JobEvent]:
        for number in range(after + 1, 4):
            yield JobEvent(number=number, job=job_id, kind="note", data={"text": str(number)})


def make_client(folder: Path, *, host: str = "127.0.0.1", **settings: Any) -> TestClient:
    """A client of a server with a root named films in `folder`, which has a.mp4; `client.app.state` has the fakes."""
    films = folder / "films"
    films.mkdir(exist_ok=True)
    (films / "a.mp4").write_bytes(VIDEO)
    options = {"roots": (films,), "data": folder / "data", "model": "mini", **settings}
    app = create_app(ServeSettings(host=host, **options), FakeEngine(), FakeJobs())
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


def error_of(response: Any) -> dict[str, Any]:
    """The error of an answer, after checking its form."""
    body = response.json()
    assert list(body) == ["error"], body
    assert list(body["error"]) == ["code", "message", "hint"]
    return body["error"]
