"""Server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from openxclip.common.files import without_nan

_KEEP_ALIVE = 15.0  # seconds of silence, after which a comment shows proxies that the connection is in use
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def as_event(name: str, data: Any, number: int | None = None) -> str:
    """Return an event as text; its data is JSON on one line."""
    line = json.dumps(without_nan(data), ensure_ascii=False, allow_nan=False)
    start = "" if number is None else f"id: {number}\n"
    return f"{start}event: {name}\ndata: {line}\n\n"


class EventResponse(StreamingResponse):
    """An answer that sends events as they come, until they end, the client leaves or the server stops.

    Args:
        events: the events as text.
        stopping: set when the server stops.
        on_end: called at the end, also if the answer never began.
        keep_alive: seconds of silence, after which a comment is sent.
    """

    def __init__(
        self,
        events: AsyncIterator[str],
        stopping: asyncio.Event,
        *,
        on_end: Callable[[], Awaitable[None]] | None = None,
        keep_alive: float = _KEEP_ALIVE,
    ) -> None:
        super().__init__(
            _stream(events, stopping, keep_alive), media_type="text/event-stream; charset=utf-8", headers=_HEADERS
        )
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            if scope.get("openxclip.head"):
                await Response(status_code=200, headers=_HEADERS, media_type=self.media_type)(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        finally:
            if self._on_end is not None:
                await self._on_end()


async def _stream(events: AsyncIterator[str], stopping: asyncio.Event, keep_alive: float) -> AsyncIterator[str]:
    stop = asyncio.ensure_future(stopping.wait())
    following: asyncio.Future[str | None] | None = None
    try:
        while not stop.done():
            if following is None:
                following = asyncio.ensure_future(_next(events))
            waited: set[asyncio.Future[Any]] = {following, stop}
            await asyncio.wait(waited, timeout=keep_alive, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                text, following = following.result(), None
                if text is None:
                    return
                yield text
            elif not stop.done():
                yield ": still here\n\n"
    finally:
        for task in (stop, following):
            if task is not None:
                task.cancel()
                with suppress(BaseException):
                    await task
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


async def _next(events: AsyncIterator[str]) -> str | None:
    try:
        return await anext(events)
    except StopAsyncIteration:
        return None
