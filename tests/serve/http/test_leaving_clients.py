"""Clients that leave, bodies that come slowly, and streams of events: at the level of ASGI messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from serving_fakes import VIDEO, make_client

from openxclip.serve.engine.errors import QueueFullError
from openxclip.serve.engine.tasks import ClassifyTask, TimelineTask


class Connection:
    """A client's connection to an application.

    Args:
        app: the application.
        path: the address.
        body: pieces of the body.
        leaves: waits until the client closes the connection.
    """

    def __init__(
        self, app: Any, path: str, body: list[bytes], leaves: Callable[[], Awaitable[Any]], **headers: str
    ) -> None:
        self.app, self.body, self.leaves = app, body, leaves
        self.status, self.content = 0, b""
        names = {"host": "127.0.0.1", "content-length": str(sum(map(len, body))), **headers}
        target, _, query = path.partition("?")
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": target,
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in names.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }

    async def receive(self) -> dict[str, Any]:
        if self.body:
            return {"type": "http.request", "body": self.body.pop(0), "more_body": bool(self.body)}
        await self.leaves()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.content += message.get("body", b"")

    async def run(self) -> None:
        await asyncio.wait_for(self.app(self.scope, self.receive, self.send), 20)


async def never() -> None:
    await asyncio.Event().wait()


def make_app(folder: Path, **settings: Any) -> Any:
    app = make_client(folder, **settings).app
    app.state.settings.uploads.mkdir(parents=True)
    return app


def body_of(**fields: Any) -> list[bytes]:
    return [json.dumps({"labels": ["a"], "path": "a.mp4", **fields}).encode()]


JSON = {"content_type": "application/json"}


def test_a_client_that_leaves_frees_its_task(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    engine = app.state.engine

    async def run() -> None:
        engine.blocks = asyncio.Event()

        async def leaves() -> None:
            while not engine.tasks:
                await asyncio.sleep(0.001)

        connection = Connection(app, "/v1/classify", body_of(), leaves, **JSON)
        await connection.run()
        assert connection.status == 0

    asyncio.run(run())
    assert engine.cancelled == 1
    assert isinstance(engine.tasks[0], ClassifyTask)


def test_a_client_that_leaves_while_it_sends_leaves_no_file(tmp_path: Path) -> None:
    app = make_app(tmp_path)

    async def run() -> None:
        async def at_once() -> None: ...

        connection = Connection(app, "/v1/uploads", [VIDEO, VIDEO], at_once, content_type="video/mp4")
        first = connection.receive

        async def receive() -> dict[str, Any]:
            message = await first()
            return {**message, "more_body": True} if message["type"] == "http.request" else message

        connection.receive = receive  # type: ignore[method-assign]
        await connection.run()
        assert connection.status == 0

    asyncio.run(run())
    assert list(app.state.settings.uploads.iterdir()) == []


def test_a_client_that_leaves_during_events_frees_its_task_and_its_file(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    engine = app.state.engine

    async def run() -> None:
        engine.blocks, engine.progress = asyncio.Event(), [(1.0, 2.0)]

        async def leaves() -> None:
            while b"progress" not in connection.content:
                await asyncio.sleep(0.001)
            assert len(list(app.state.settings.uploads.iterdir())) == 1

        headers = {"content_type": "video/mp4", "accept": "text/event-stream"}
        connection = Connection(app, "/v1/timeline?labels=a", [VIDEO], leaves, **headers)
        await connection.run()
        assert connection.status == 200

    asyncio.run(run())
    assert engine.cancelled == 1
    assert isinstance(engine.tasks[0], TimelineTask)
    assert list(app.state.settings.uploads.iterdir()) == []


def test_events_end_when_the_server_stops(tmp_path: Path) -> None:
    app = make_app(tmp_path)

    async def run() -> None:
        app.state.engine.blocks = asyncio.Event()
        connection = Connection(app, "/v1/timeline", body_of(), never, accept="text/event-stream", **JSON)
        work = asyncio.ensure_future(connection.run())
        while connection.status == 0:
            await asyncio.sleep(0.001)
        app.state.server.stopping.set()
        await work

    asyncio.run(run())
    assert app.state.engine.cancelled == 1


def test_an_error_after_the_first_event_is_an_event(tmp_path: Path) -> None:
    from openxclip.errors import VideoError

    app = make_app(tmp_path)
    engine = app.state.engine

    async def run() -> bytes:
        engine.blocks = asyncio.Event()
        real = engine._result

        def fail(task: Any) -> Any:
            real(task)
            raise VideoError("a.mp4", "breaks off.")

        engine._result = fail
        connection = Connection(app, "/v1/timeline", body_of(), never, accept="text/event-stream", **JSON)
        work = asyncio.ensure_future(connection.run())
        while connection.status == 0:
            await asyncio.sleep(0.001)
        engine.blocks.set()
        await work
        return connection.content

    text = asyncio.run(run()).decode()
    assert text.startswith("event: error\n")
    assert json.loads(text.split("data: ")[1])["error"]["code"] == "video_unreadable"


@pytest.mark.parametrize("path", ["/v1/uploads", "/v1/classify", "/v1/session"])
def test_a_body_that_stops_coming_is_refused(tmp_path: Path, path: str) -> None:
    app = make_app(tmp_path, body_timeout=0.05)

    async def run() -> Connection:
        connection = Connection(app, path, [b"a"], never, content_type="video/mp4", content_length="100")
        first = connection.receive

        async def receive() -> dict[str, Any]:
            return {**await first(), "more_body": True}

        connection.receive = receive  # type: ignore[method-assign]
        await connection.run()
        return connection

    connection = asyncio.run(run())
    if path == "/v1/session":  # refused by its type before the body is read
        assert connection.status in (408, 415)
    else:
        assert connection.status == 408
        assert json.loads(connection.content)["error"]["code"] == "body_too_slow"
    assert list(app.state.settings.uploads.iterdir()) == []


def test_a_body_that_drips_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from openxclip.serve import bodies

    monkeypatch.setattr(bodies, "_PATIENCE", 0.03)
    app = make_app(tmp_path)

    async def run() -> Connection:
        async def drip() -> dict[str, Any]:
            await asyncio.sleep(0.005)
            return {"type": "http.request", "body": b"a", "more_body": True}

        connection = Connection(app, "/v1/uploads", [], never, content_type="video/mp4", transfer_encoding="chunked")
        connection.scope["headers"] = [pair for pair in connection.scope["headers"] if pair[0] != b"content-length"]  # type: ignore[misc]
        connection.receive = drip  # type: ignore[method-assign]
        await connection.run()
        return connection

    assert asyncio.run(run()).status == 408


@pytest.mark.parametrize(("length", "is_taken"), [(40, True), (1 << 30, False)])
def test_a_small_body_is_taken_before_a_refusal_so_that_the_client_sees_it(
    tmp_path: Path, length: int, is_taken: bool
) -> None:
    app = make_app(tmp_path)
    app.state.engine.full = QueueFullError(3)
    path, headers = "/v1/classify?labels=a", {"content_type": "video/mp4", "content-length": str(length)}
    connection = Connection(app, path, [b"0123456789"] * 4, never, **headers)
    asyncio.run(connection.run())
    assert connection.status == 429
    assert (not connection.body) is is_taken


def test_a_request_with_two_lengths_is_refused(tmp_path: Path) -> None:
    app = make_app(tmp_path)

    async def run() -> Connection:
        connection = Connection(app, "/v1/classify", [b"{}"], never, transfer_encoding="chunked", **JSON)
        await connection.run()
        return connection

    assert asyncio.run(run()).status == 400
